"""Loading models and tokenizers, freezing, adapters, losses."""
