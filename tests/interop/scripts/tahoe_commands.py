"""The tahoe command, many times: each line of standard input is {"args": [...],
"cwd": ..., "stdin": ...}, and is answered by {"code", "out", "err"}.

Each runs in a process of its own that is forked from this one, which has imported
Tahoe already: half a second of CPU less for each. What it runs is what the `tahoe`
script runs.
"""
import json
import os
import sys
import tempfile
import traceback

from twisted.internet import pollreactor

# The usual reactor would share its epoll between the processes; this one has nothing
# in the kernel.
pollreactor.install()

from allmydata.scripts import (  # noqa: E402, F401 (imported before the fork)
    backupdb, runner, tahoe_add_alias, tahoe_backup, tahoe_check, tahoe_cp, tahoe_get, tahoe_ls,
    tahoe_manifest, tahoe_mkdir, tahoe_mv, tahoe_put, tahoe_unlink,
)


def command(job, out, err, given):
    os.chdir(job["cwd"])
    for fd, file in ((0, given), (1, out), (2, err)):
        os.dup2(file.fileno(), fd)
    sys.argv[:] = ["tahoe"] + job["args"]
    try:
        runner.run()
    except SystemExit as e:
        return e.code if isinstance(e.code, int) else 1 if e.code else 0
    return 0


for line in sys.stdin:
    job = json.loads(line)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, tempfile.TemporaryFile() as given:
        given.write(job.get("stdin", "").encode())
        given.seek(0)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                code = command(job, out, err, given)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code & 0xff)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        out.seek(0)
        err.seek(0)
        answer = {"code": code, "out": out.read().decode("utf-8", "replace"), "err": err.read().decode("utf-8", "replace")}
    sys.__stdout__.write(json.dumps(answer) + "\n")
    sys.__stdout__.flush()
