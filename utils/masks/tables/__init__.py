"""Tables of class names and mask values that lie beside the masks."""
