"""Checks of one machine by itself: memory, disks, limits, kernel, settings. Pure: facts in, findings out."""

from __future__ import annotations

from collections.abc import Iterator

from quakegrid.doctor.checks import rights_checks
from quakegrid.doctor.checks.findings import Finding, Severity, fine
from quakegrid.doctor.facts import NO_LIMIT, DiskFacts, NodeFacts
from quakegrid.settings import config

GIB = 1 << 30
MIB = 1 << 20
# Open files and processes: of an agent with its template, and of each worker of the engine, at most.
FILES_AT_REST, FILES_A_CORE = 64, 8
TASKS_AT_REST, TASKS_A_CORE = 64, 8
USUAL_FILE_LIMIT = 1024
# Memory of the loaded engine, which a node's processes share, and of each worker beside it.
MEMORY_AT_REST = 1 * GIB
MEMORY_A_CORE = 512 * MIB
# Bytes by role of a folder: a calculation fails below the first, is at risk below the second.
ROOM = {
    "state_dir": (64 * MIB, 1 * GIB),
    "temporary": (256 * MIB, 5 * GIB),
    "shared_dir": (256 * MIB, 10 * GIB),
    "database": (256 * MIB, 5 * GIB),
    "shared memory": (64 * MIB, 1 * GIB),
}
# Each folder: its use, and the setting that chooses it.
ROLES = {
    "state_dir": ("the services' logs and task records cannot be written", "choose another by --state-dir"),
    "temporary": ("payloads beyond [broker] lane_memory and the engine's temporary files find no room",
                  "free some, or point [directory] custom_tmp in openquake.cfg at a larger disk"),
    "shared_dir": ("calculations cannot write their datastores",
                   "free some (`quakegrid jobs delete`), or enlarge it"),
    "database": ("jobs, logs and datastores cannot be written",
                 "free some (`quakegrid jobs delete`, [dbserver] log_retention_mb), or move [dbserver] file"),
    "shared memory": ("large arguments of tasks travel with each task instead of once to each node",
                      "enlarge /dev/shm (docker: --shm-size; mount -o remount,size=50% /dev/shm)"),
}  # fmt: skip
# Folders that one machine writes and no other may.
OWN_ROLES = ("state_dir", "database")
NETWORK_FILE_SYSTEMS = (
    "nfs",
    "cifs",
    "smb",
    "fuse.sshfs",
    "lustre",
    "gpfs",
    "ceph",
    "beegfs",
    "fuse.gluster",
    "afs",
)
CHECK_OF_ROLE = {"shared_dir": "shared_dir", "shared memory": "shared_memory"}


def check_node(facts: NodeFacts, label: str) -> list[Finding]:
    """All findings from the facts of one machine.

    Args:
        facts: of the machine.
        label: how findings name it.
    """
    checks = (
        check_swap,
        check_overcommit,
        check_memory_limit,
        check_cpu_limit,
        check_governor,
        check_encryption,
        check_open_files,
        check_processes,
        check_settings,
        check_authkey,
        check_network_disks,
        *rights_checks.CHECKS,
        check_silence,
    )
    return [found for check in checks for found in check(facts, label)] + [
        check_disk(disk, label) for disk in facts.disks
    ]


def check_swap(facts: NodeFacts, label: str) -> Iterator[Finding]:
    """The engine's manual warns of swap."""
    if not facts.swap_bytes:
        yield fine("swap", label, "no swap")
        return
    yield Finding(
        "swap",
        Severity.SLOWS,
        label,
        f"{size(facts.swap_bytes)} of swap are active, {size(facts.swap_used_bytes)} in use",
        "a calculation that needs more memory than there is crawls for hours instead of failing at once",
        "`swapoff -a`, and remove it from /etc/fstab; [agent] worker_memory bounds what a worker takes",
    )


def check_overcommit(facts: NodeFacts, label: str) -> Iterator[Finding]:
    """Forking the template needs the kernel to promise more than is used."""
    if facts.overcommit_mode != 2:
        yield fine("overcommit", label, f"vm.overcommit_memory is {facts.overcommit_mode}")
        return
    yield Finding(
        "overcommit",
        Severity.BREAKS,
        label,
        "vm.overcommit_memory is 2: the kernel counts shared pages for each process",
        "workers cannot be forked from the loaded engine long before the memory is used",
        "`sysctl vm.overcommit_memory=0`, and the same in /etc/sysctl.d",
    )


def check_memory_limit(facts: NodeFacts, label: str) -> Iterator[Finding]:
    """A control group may have less memory than the workers are told that they may use."""
    limit, cores = facts.memory_limit_bytes, facts.core_count
    if not cores:  # a master that is no node
        return
    if limit == NO_LIMIT or limit >= facts.memory_bytes:
        limit, group = facts.memory_bytes, "the machine"
    else:
        group = "its control group"
    remedy = "raise memory.max (systemd: MemoryMax=, docker: --memory), or offer fewer cores in host_cores"
    if facts.worker_memory_bytes and facts.worker_memory_bytes * cores > limit:
        allowed = f"{cores} workers may use {size(facts.worker_memory_bytes)} each"
        yield Finding(
            "memory_limit",
            Severity.BREAKS,
            label,
            f"{group} has {size(limit)}, and {allowed}",
            "the kernel kills workers before they reach [agent] worker_memory, at any task",
            f"lower [agent] worker_memory; or {remedy}",
        )
    elif limit < MEMORY_AT_REST + MEMORY_A_CORE * cores:
        yield Finding(
            "memory_limit",
            Severity.SLOWS,
            label,
            f"{group} has {size(limit)} for {cores} workers",
            "calculations of usual size end with workers killed for their memory, and are tried again",
            remedy,
        )
    else:
        yield fine("memory_limit", label, f"{group} has {size(limit)} for {cores} workers")


def check_cpu_limit(facts: NodeFacts, label: str) -> Iterator[Finding]:
    """A control group may allow less time than its cores have."""
    if not facts.core_count:
        return
    if facts.cpu_limit == NO_LIMIT or facts.cpu_limit >= facts.core_count:
        yield fine("cpu_limit", label, f"{facts.core_count} cores without a limit on their time")
        return
    yield Finding(
        "cpu_limit",
        Severity.SLOWS,
        label,
        f"its control group allows the time of {facts.cpu_limit:g} cores, and it offers {facts.core_count}",
        "all its workers are held up together, and tasks take far longer here than elsewhere",
        f"offer {max(int(facts.cpu_limit), 1)} in host_cores, or raise cpu.max "
        "(systemd: CPUQuota=, docker: --cpus)",
    )


def check_governor(facts: NodeFacts, label: str) -> Iterator[Finding]:
    """`powersave` means the lowest frequency, but for drivers that choose by themselves."""
    slow = [
        driver
        for driver, _, governor in (pair.partition(" ") for pair in facts.governors)
        if governor == "powersave" and not driver.startswith(("intel_pstate", "amd-pstate", "amd_pstate"))
    ]
    if not slow:
        yield fine("cpu_governor", label, ", ".join(facts.governors) or "no frequency scaling")
        return
    yield Finding(
        "cpu_governor",
        Severity.SLOWS,
        label,
        f"the cpu governor is powersave ({', '.join(slow)})",
        "cores stay at their lowest frequency: calculations take two to three times as long",
        "`cpupower frequency-set -g performance`, and the same at boot",
    )


def check_encryption(facts: NodeFacts, label: str) -> Iterator[Finding]:
    """The libsodium in pyzmq's wheels is compiled without optimisation."""
    if not facts.has_slow_encryption:
        yield fine("encryption", label, "PyNaCl's libsodium")
        return
    yield Finding(
        "encryption",
        Severity.SLOWS,
        label,
        "PyNaCl, whose libsodium is the fast one, is not installed, or was built without it",
        "a core is busy for 10 ms with each MiB that tasks send or get, a tenth of that otherwise",
        "`pip install --only-binary=pynacl pynacl` into QuakeGrid's environment, then restart its services",
    )


def check_open_files(facts: NodeFacts, label: str) -> Iterator[Finding]:
    """Agent, lanes and workers hold descriptors for each other."""
    limit, needed = facts.open_file_limit, FILES_AT_REST + FILES_A_CORE * facts.core_count
    if limit == NO_LIMIT or limit >= max(needed, USUAL_FILE_LIMIT):
        yield fine("open_files", label, f"{_limit(limit)} open files a process")
        return
    yield Finding(
        "open_files",
        Severity.BREAKS if limit < needed else Severity.NOTE,
        label,
        f"a process may have {limit} open files; {needed} are needed for {facts.core_count} cores",
        "workers cannot connect, and files of a calculation cannot be opened",
        "LimitNOFILE=65536 in the systemd unit, or nofile in /etc/security/limits.conf",
    )


def check_processes(facts: NodeFacts, label: str) -> Iterator[Finding]:
    """A worker is some threads, and each counts as a process."""
    needed = TASKS_AT_REST + TASKS_A_CORE * facts.core_count
    limits = [limit for limit in (facts.process_limit, facts.task_limit) if limit != NO_LIMIT]
    limit = min(limits, default=NO_LIMIT)
    if limit == NO_LIMIT or limit >= needed:
        yield fine("processes", label, f"{_limit(limit)} processes and threads")
        return
    yield Finding(
        "processes",
        Severity.BREAKS,
        label,
        f"{limit} processes and threads are allowed; {needed} are needed for {facts.core_count} cores",
        "workers cannot be forked, or die when they start a thread",
        "LimitNPROC= and TasksMax=infinity in the systemd unit, nproc in /etc/security/limits.conf, "
        "docker: --pids-limit",
    )


def check_settings(facts: NodeFacts, label: str) -> Iterator[Finding]:
    """The settings on the disk count at the next start."""
    key = facts.authkey
    remedy = "mend openquake.cfg there, then restart its services"
    if facts.settings_error:
        yield Finding(
            "settings", Severity.BREAKS, label, facts.settings_error, "services do not start again", remedy
        )
    elif key.disk_fingerprint != key.fingerprint and "settings" not in facts.silent_probes:
        yield Finding(
            "settings",
            Severity.BREAKS,
            label,
            f"openquake.cfg has another authkey now ({key.disk_fingerprint or 'none'}) than what runs "
            f"({key.fingerprint})",
            "commands there, and its services after their next start, are let in nowhere",
            remedy,
        )
    elif not facts.settings_warnings:
        yield fine("settings", label, "openquake.cfg can be read")
    for warning in facts.settings_warnings:
        what, _, how = warning.rpartition("; ")
        breaks = "settings do not do what was meant, or others know the cluster's key"
        yield Finding("settings", Severity.NOTE, label, what or warning, breaks, how or remedy)


def check_authkey(facts: NodeFacts, label: str) -> Iterator[Finding]:
    """A key that can be guessed lets anybody run programs on every node."""
    key = facts.authkey
    remedy = "`quakegrid authkey` makes one; put it into openquake.cfg on every node"
    if not key.length and facts.people.identity == "certificate":
        return
    if not key.length:
        what, breaks = "there is no authkey, or it is upstream's `changeme`", "no service starts"
        yield Finding("authkey", Severity.BREAKS, label, what, breaks, remedy)
    elif key.length < config.MIN_AUTHKEY_LENGTH or key.is_guessable:
        what = (
            "the authkey can be guessed"
            if key.is_guessable
            else f"the authkey has {key.length} characters, fewer than {config.MIN_AUTHKEY_LENGTH}"
        )
        breaks = "services refuse to start; whoever finds it can run programs as this user on every node"
        yield Finding("authkey", Severity.BREAKS, label, what, breaks, remedy)
    else:
        yield fine("authkey", label, f"the authkey's fingerprint is {key.fingerprint}")


def check_disk(disk: DiskFacts, label: str) -> Finding:
    """Room where a calculation writes."""
    breaks, remedy = ROLES.get(disk.role, ("what is written there fails", "free some"))
    least, wanted = ROOM.get(disk.role, (0, 0))
    check = CHECK_OF_ROLE.get(disk.role, "disk_space")
    where = f"{disk.role} {disk.path}"
    worst = Severity.SLOWS if disk.role == "shared memory" else Severity.BREAKS
    if disk.error:
        what = f"{where}: {disk.error}"
        return Finding(check, worst, label, what, breaks, f"mount or mend {disk.path}, for this user")
    if disk.free_bytes >= wanted:
        return fine(check, label, f"{where} has {size(disk.free_bytes)} free")
    severity = worst if disk.free_bytes < least else Severity.NOTE
    return Finding(
        check, severity, label, f"{where} has {size(disk.free_bytes)} free", f"soon: {breaks}", remedy
    )


def check_network_disks(facts: NodeFacts, label: str) -> Iterator[Finding]:
    """Files that one machine keeps for itself must not lie where others write."""
    found = [
        disk
        for disk in facts.disks
        if disk.role in OWN_ROLES and disk.file_system.startswith(NETWORK_FILE_SYSTEMS)
    ]
    if not found:
        yield fine("network_disk", label, "state directory and database are on this machine's disks")
    for disk in found:
        yield Finding(
            "network_disk",
            Severity.NOTE,
            label,
            f"{disk.role} {disk.path} is on a network disk ({disk.file_system})",
            "nothing at once; but machines with the same folder use each other's sockets and records, and "
            "locks of a database do not always hold there",
            "choose a folder on a disk of this machine by "
            + ("[dbserver] file" if disk.role == "database" else "--state-dir, or QUAKEGRID_STATE_DIR"),
        )


def check_silence(facts: NodeFacts, label: str) -> Iterator[Finding]:
    """A folder or port that lets a look hang also lets calculations hang."""
    for name in facts.silent_probes:
        kind = name.partition(" ")[0]
        remedy = "see its file server and mount (`df`, `mount`)"
        if kind == "name":
            remedy = "see its name servers (/etc/resolv.conf), or list the hosts in /etc/hosts"
        yield Finding(
            "silence",
            Severity.BREAKS,
            label,
            f"no answer in time: {name}",
            "whatever needs it hangs as well, and cannot even be killed while a file server is gone",
            remedy,
        )


def size(count: int) -> str:
    """Bytes for people."""
    for unit, name in ((1 << 40, "TiB"), (GIB, "GiB"), (MIB, "MiB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count / 1024:.0f} KiB"


def _limit(limit: int) -> str:
    return "any number of" if limit == NO_LIMIT else str(limit)
