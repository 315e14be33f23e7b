"""Statistics: numbers in, estimates with intervals out; nothing here knows a device."""
