"""Points, boxes, tracks and masks: from the text of an answer to scores of pixels, and back to training records."""
