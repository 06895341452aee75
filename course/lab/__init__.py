"""What a notebook shows: figures, source code, controls and predictions."""
