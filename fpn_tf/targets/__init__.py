"""Where ground truth meets boxes."""
