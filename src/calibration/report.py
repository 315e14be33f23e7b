"""stub"""
from pathlib import Path
def write_report(*a) -> None: Path(a[2]/'report.html').write_text('')
