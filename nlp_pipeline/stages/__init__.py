"""What each stage of a run does: a module a stage, called by `Recipe` in this order."""
