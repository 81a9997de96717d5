"""Measures how long `agmbench list` takes with 200 installed packages that have a modulator each, and whether it imports any.

    python benchmarks/listing.py

The packages are generated. The time is the median of eleven runs in separate processes, after one that is not counted. Target: 1 s.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

PACKAGES = 200


def main() -> None:
    print("| command | packages | median s | target | imported | met |\n|---|---:|---:|---:|---:|---|")
    with tempfile.TemporaryDirectory() as folder:
        for count in (0, PACKAGES):
            site = Path(folder) / str(count)
            for number in range(count):
                install(site, number)
            seconds = median([listed(site, count) for _ in range(12)][1:])
            imported = len(list(site.glob("*/imported")))
            met = "yes" if seconds < 1 and not imported else "NO"
            print(f"| agmbench list | {count} | {seconds:.2f} | 1 | {imported} | {met} |", flush=True)


def install(site: Path, number: int) -> None:
    """Write a package as pip would install it. The package writes a file when it is imported."""
    name, info = f"generated_{number}", site / f"generated_{number}-1.0.dist-info"
    for path, text in {
        info / "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nSummary: a generated modulator\n",
        info / "entry_points.txt": f"[agmbench.modulator]\n{name} = {name}:Generated\n",
        site / name / "__init__.py": "from pathlib import Path\n\nPath(__file__).with_name('imported').touch()\n",
        site
        / name
        / "registry.yaml": f"modulators:\n  {name}: {{summary: one of many, search: {{alpha: {{low: 0, high: 1}}}}}}\n",
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def listed(site: Path, count: int) -> float:
    path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))
    begun = time.perf_counter()
    words = [sys.executable, "-m", "agmbench", "list"]
    done = subprocess.run(words, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - begun
    assert done.stdout.count("package generated_") == count
    return seconds


if __name__ == "__main__":
    main()
