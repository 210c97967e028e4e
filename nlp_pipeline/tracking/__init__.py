"""Sending a run's figures to experiment trackers, from a process of their own.

Training writes `metrics.jsonl` and nothing else. A follower, one process for each tracker, reads that file and sends
what it has not sent yet. A tracker that hangs, crashes or leaks can therefore not touch training or another tracker,
and sending live and sending later are one path. Accelerate's `GeneralTracker` is not used: it logs from within the
training process, and has no word for going on with a run or for what was already sent.
"""
