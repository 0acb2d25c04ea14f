"""Cache of decoded items: in memory, in a file or on the device."""
