"""The tarball and an installation from it, as a user gets them: ./configure --prefix && make && make install.

The tarball comes from `make distcheck`, so that its own build, check, install and uninstall ran before.
"""

import glob
import json
import os
import re
import shutil
import socket
import subprocess
import tarfile
import tempfile
import time
import urllib.request
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("STEPD_BUILD", SOURCE / "build")).resolve()
JOBS = f"-j{os.cpu_count()}"


def sh(command, cwd, env=None, ok=True):
    done = subprocess.run(command, shell=isinstance(command, str), cwd=cwd, env={**os.environ, **(env or {})}, text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if ok:
        assert done.returncode == 0, f"{command}: status {done.returncode}\n" + done.stdout[-6000:]
    return done.stdout


def files(root):
    return {str(p.relative_to(root)) for p in Path(root).rglob("*") if not p.is_dir()}


@pytest.fixture(scope="module")
def temp():
    d = Path(tempfile.mkdtemp(prefix="dist-"))
    os.chmod(d, 0o755)
    yield d
    subprocess.run(["chmod", "-R", "u+w", d], check=False)
    shutil.rmtree(d, ignore_errors=True)


@pytest.fixture(scope="module")
def tarball():
    for old in glob.glob(str(BUILD / "stepd-*.tar.gz")):
        os.unlink(old)
    sh(["make", JOBS, "distcheck"], BUILD)
    [path] = glob.glob(str(BUILD / "stepd-*.tar.gz"))
    return Path(path)


@pytest.fixture(scope="module")
def tree(tarball, temp):
    """Unpacked, configured for temp/prefix and built, in the tree itself."""
    with tarfile.open(tarball) as t:
        t.extractall(temp)
    tree = temp / tarball.name.removesuffix(".tar.gz")
    sh(["./configure", "--quiet", f"--prefix={temp}/prefix"], tree)
    sh(["make", JOBS], tree)
    return tree


@pytest.fixture(scope="module")
def prefix(tree, temp):
    sh(["make", "install"], tree)
    return temp / "prefix"


def test_distcheck(tarball):
    assert tarball.stat().st_size > 10000


def test_version_is_the_tarballs(tree, prefix):
    version = tree.name.removeprefix("stepd-")
    for program in ("sbin/stepd", "bin/stepctl"):
        assert version in sh([prefix / program, "--version"], "/")


def test_everything_is_installed(prefix):
    have = files(prefix)
    wanted = {
        "sbin/stepd", "bin/stepctl", "include/stepd/step.h", "include/stepd/abi.h", "lib/pkgconfig/stepd-step.pc", "etc/stepd/stepd.yaml",
        "lib/systemd/system/stepd.service", "lib/systemd/system/stepd.socket", "share/man/man8/stepd.8", "share/man/man1/stepctl.1",
        "share/man/man5/stepd.yaml.5", "share/man/man3/stepd_step.3",
    }
    assert wanted <= have, f"missing: {wanted - have}"
    for folder, pattern, source in (("share/stepd/sql", "*.sql", SOURCE / "sql"), ("lib/stepd/steps", "*.so", BUILD / "steps")):
        there = {Path(f).name for f in have if f.startswith(folder)}
        expected = {p.name for p in source.glob(pattern)}
        assert expected and expected <= there, f"{folder}: missing {expected - there}"


def test_paths_are_the_prefixs_own(prefix):
    unit = (prefix / "lib/systemd/system/stepd.service").read_text()
    assert f"ExecStart={prefix}/sbin/stepd -c {prefix}/etc/stepd/stepd.yaml" in unit
    assert f"{prefix}/lib/stepd/steps" in (prefix / "etc/stepd/stepd.yaml").read_text()
    for page in ("man5/stepd.yaml.5", "man8/stepd.8"):
        text = (prefix / "share/man" / page).read_text()
        assert "/usr/local" not in text and f"{prefix}/etc/stepd/stepd.yaml" in text and f"{prefix}/lib/stepd/steps" in text


def test_installed_configuration_and_sample_steps_pass_check(prefix):
    sh([prefix / "sbin/stepd", "--check"], "/", {"STEPD_SQL_DIR": ""})


def test_destdir_is_respected(tree, temp):
    before = files(temp / "prefix")
    sh(["make", "install", f"DESTDIR={temp}/root"], tree)
    root = files(temp / "root")
    assert root and all(f.startswith(str(temp / "prefix").lstrip("/")) for f in root)
    assert files(temp / "prefix") == before
    sh(["make", "uninstall", f"DESTDIR={temp}/root"], tree)
    assert files(temp / "root") == set()


def test_changed_configuration_is_never_overwritten_nor_removed(tree, temp):
    dest = temp / "kept"
    sh(["make", "install", f"DESTDIR={dest}"], tree)
    conf = dest / str(temp / "prefix/etc/stepd/stepd.yaml").lstrip("/")
    conf.write_text("# mine\n")
    sh(["make", "install", f"DESTDIR={dest}"], tree)
    assert conf.read_text() == "# mine\n"
    sh(["make", "uninstall", f"DESTDIR={dest}"], tree)
    assert conf.read_text() == "# mine\n"


def test_programs_are_hardened(prefix):
    for program in ("sbin/stepd", "bin/stepctl"):
        elf = sh(["readelf", "-hldW", prefix / program], "/")
        assert "DYN (Position-Independent Executable" in elf
        assert "GNU_RELRO" in elf and "BIND_NOW" in elf
        stack = next(line for line in elf.splitlines() if "GNU_STACK" in line)
        assert "RWE" not in stack
        assert "__stack_chk_fail" in sh(["readelf", "-sW", "--dyn-syms", prefix / program], "/")




@pytest.mark.parametrize("flags", ["-std=c11 -Wall -Wextra -pedantic -Werror", "-std=gnu11 -O2 -D_FORTIFY_SOURCE=2 -Werror"])
def test_header_alone_compiles(prefix, temp, flags):
    c = temp / "header.c"
    c.write_text("#include <stepd/step.h>\nint x;\n")
    sh(f"cc -c -fPIC {flags} $(pkg-config --cflags stepd-step) -o header.o header.c", temp,
       {"PKG_CONFIG_PATH": f"{prefix}/lib/pkgconfig"})


def readme(language, first):
    """The README's code block in a language that begins with `first`."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", (SOURCE / "README.md").read_text(), re.M | re.S)
    return next(b for b in blocks if b.startswith(first))


def test_the_readmes_step_runs_on_an_installation(prefix, temp):
    """Built outside the tree with pkg-config, run by the installed daemon on an embedded database."""
    out = temp / "own"
    out.mkdir(mode=0o755)
    (out / "hello.c").write_text(readme("c", "#include"))
    command = next(line for line in readme("sh", "cc ").splitlines() if line.startswith("cc "))
    command = command.replace("/usr/local/lib/stepd/steps/", "")
    sh(f"{command} -Wall -Wextra -Werror", out, {"PKG_CONFIG_PATH": f"{prefix}/lib/pkgconfig"})
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    (out / "stepd.yaml").write_text(f'steps: [ "{out}" ]\nhttp: {{ listen: "127.0.0.1:{port}" }}\nadmin: {{ listen: off }}\n')
    env = {k: v for k, v in os.environ.items() if not k.startswith(("STEPD_", "PG", "NOTIFY"))}
    with open(out / "stepd.log", "w") as log:
        daemon = subprocess.Popen([prefix / "sbin/stepd", "-c", out / "stepd.yaml", "--embedded", temp / "db"], cwd="/",
                                  stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env)
    try:
        def stepctl(*args):
            conninfo = (temp / "db/conninfo").read_text().strip()
            return subprocess.run([prefix / "bin/stepctl", "--database", conninfo, "--json", *args], cwd="/", env=env, text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

        def until(what, deadline=30):
            end = time.monotonic() + deadline
            while not (value := what()):
                assert daemon.poll() is None and time.monotonic() < end, (out / "stepd.log").read_text()[-4000:]
                time.sleep(0.05)
            return value

        def reply():
            request = urllib.request.Request(f"http://127.0.0.1:{port}/hello", b'{"name": "web"}', {"Content-Type": "application/json"})
            try:
                return json.load(urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10))
            except OSError:
                return None  # not up yet

        assert until(reply) == {"greeting": "Hello web!"}
        enqueued = stepctl("enqueue", "hello", '{"name": "world"}')
        assert enqueued.returncode == 0, enqueued.stdout
        job = re.search(r"\d+", enqueued.stdout).group()
        until(lambda: "Hello world!" in stepctl("job", job).stdout)
    finally:
        daemon.terminate()
        try:
            code = daemon.wait(30)
        except subprocess.TimeoutExpired:
            daemon.kill()
            raise
    assert code == 0, (out / "stepd.log").read_text()[-4000:]


def test_missing_library_names_its_package(tree, temp):
    """With two libraries gone, configure names both and their Debian packages at once."""
    d = temp / "noconf"
    d.mkdir()
    copy = temp / "srccopy"
    shutil.copytree(tree, copy, symlinks=True)
    sh("make distclean", copy)
    out = sh([copy / "configure", "LIBPQ_CFLAGS=", "LIBPQ_LIBS="], d, {"PKG_CONFIG_LIBDIR": str(d)}, ok=False)
    for package in ("libcjson-dev", "libyaml-dev", "libh2o-evloop-dev", "libssl-dev"):
        assert package in out.splitlines()[-1] or any(package in line for line in out.splitlines()[-3:]), out[-2000:]
