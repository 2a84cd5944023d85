"""The resources that processes have used, from Linux's /proc, and the bytes that PostgreSQL has written."""

import os
from pathlib import Path

import asyncpg

_TICKS = os.sysconf("SC_CLK_TCK")


def measure_cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and its descendants, including those that have ended.

    When a child ends, its time moves to its parent's third and fourth number, so the sum never decreases.
    """
    parents: dict[int, int] = {}
    used: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal() and (fields := _read_stat(folder)):
            parents[int(folder.name)] = int(fields[1])
            used[int(folder.name)] = sum(map(int, fields[11:15]))  # utime, stime, cutime, cstime
    return sum(ticks for one, ticks in used.items() if _is_descendant(one, pid, parents)) / _TICKS


def measure_resident_megabytes(pid: int) -> float:
    """Return the resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1_000_000


async def read_written_bytes(dsn: str) -> tuple[int, int]:
    """Return the end of the write-ahead log and the size of the database."""
    connection = await asyncpg.connect(dsn)
    try:
        record = await connection.fetchrow("select pg_current_wal_insert_lsn(), pg_database_size(current_database())")
    finally:
        await connection.close()
    assert record
    return record[0], record[1]


def _read_stat(folder: Path) -> list[str]:
    # man proc_pid_stat: the name, in brackets, may contain brackets; the state follows the last one.
    try:
        return (folder / "stat").read_text().rpartition(")")[2].split()
    except OSError:  # the process ended meanwhile
        return []


def _is_descendant(pid: int, ancestor: int, parents: dict[int, int]) -> bool:
    while pid in parents and pid != ancestor:
        pid = parents[pid]
    return pid == ancestor
