"""What a population costs on this device."""
