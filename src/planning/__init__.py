"""What a sweep would do, told before anything is sent: `plan=true` (docs/planning.md)."""
