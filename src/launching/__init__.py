"""What every sweep does, wherever its runs are: prepared, shown, repeated, ended, published."""
