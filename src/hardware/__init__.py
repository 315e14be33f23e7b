"""What the machine is made of: told by the kernel, torch and NVML; nothing of ours is below."""
