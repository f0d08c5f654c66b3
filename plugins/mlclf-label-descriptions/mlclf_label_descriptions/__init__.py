"""A head of mlclf that scores texts against descriptions of the labels."""
