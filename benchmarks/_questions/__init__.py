"""Questions of known kinds: templates and words to train the classifier on, and others to judge it by."""
