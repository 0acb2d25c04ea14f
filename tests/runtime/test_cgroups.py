"""Limits of control groups, of both versions, nested, in containers and outside."""

import pytest

from utils.runtime import cgroups

HUGE = 9223372036854771712  # version 1's "no limit"


@pytest.fixture
def system(tmp_path, monkeypatch):
    """Return a function that makes the files of a system of groups."""
    monkeypatch.setattr(cgroups, 'MOUNT', tmp_path / 'cgroup')
    monkeypatch.setattr(cgroups, 'MEMBERSHIP', tmp_path / 'self')
    monkeypatch.setattr(cgroups.os, 'sched_getaffinity', lambda _: set(range(16)), raising=False)

    def make(membership, **files):
        (tmp_path / 'self').write_text(membership)
        for name, content in files.items():
            path = tmp_path / 'cgroup' / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f'{content}\n')
            for folder in (path.parent, *path.parent.parents):
                if tmp_path / 'cgroup' in (folder, *folder.parents):
                    (folder / 'cgroup.procs').touch()

    return make


def files(folder, version, limit, used, cached):
    """Return the files of a group's memory."""
    names = {1: ('limit_in_bytes', 'usage_in_bytes'), 2: ('max', 'current')}[version]
    stat = f'anon 1\ninactive_file {cached}\nactive_file 7'
    stat += f'\ntotal_inactive_file {cached}' if version == 1 else ''
    values = zip(('memory.' + name for name in names), (limit, used), strict=True)
    return {f'{folder}{name}': value for name, value in [*values, ('memory.stat', stat)]}


def test_without_groups_there_is_no_limit(system):
    assert cgroups.memory_room() is None
    assert cgroups.available_cores() == 16


def test_page_cache_makes_room(system):
    system('0::/\n', **files('', 2, 8000, 7900, 7000))
    assert cgroups.memory_room() == 7100


def test_the_least_room_of_all_groups_above_counts(system):
    groups = files('', 2, 'max', 500, 0) | files('job/', 2, 3000, 1000, 0)
    system('0::/job/step\n', **groups, **files('job/step/', 2, 'max', 900, 0))
    assert cgroups.memory_room() == 2000


def test_version_1_has_its_own_files(system):
    groups = files('memory/', 1, HUGE, 500, 0) | files('memory/slurm/job_1/', 1, 5000, 4000, 1500)
    system('9:cpu,cpuacct:/\n4:memory:/slurm/job_1\n0::/\n', **groups)
    assert cgroups.memory_room() == 2500


def test_a_containers_own_group_is_the_root_where_the_path_is_the_hosts(system):
    system('4:memory:/docker/0123\n', **files('memory/', 1, 6000, 1000, 0))
    assert cgroups.memory_room() == 5000


def test_a_group_over_its_limit_has_no_room(system):
    system('0::/\n', **files('', 2, 1000, 1500, 0))
    assert cgroups.memory_room() == 0


@pytest.mark.parametrize(
    ('membership', 'quotas', 'cores'),
    [
        ('0::/a/b', {'a/cpu.max': '250000 100000', 'a/b/cpu.max': 'max 100000'}, 2),
        ('0::/', {'cpu.max': '50000 100000'}, 1),
        ('3:cpu,cpuacct:/', {'cpu,cpuacct/cpu.cfs_quota_us': '400000',
                             'cpu,cpuacct/cpu.cfs_period_us': '100000'}, 4),
        ('3:cpu:/', {'cpu/cpu.cfs_quota_us': '-1', 'cpu/cpu.cfs_period_us': '100000'}, 16),
    ],
)  # fmt: skip
def test_cores_are_limited_by_affinity_and_quota(system, membership, quotas, cores):
    system(f'{membership}\n', **quotas)
    assert cgroups.available_cores() == cores
