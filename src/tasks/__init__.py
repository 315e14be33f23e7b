"""Tasks: what one run does with its workload and treatment (conf/task names them)."""
