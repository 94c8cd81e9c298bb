import json
import os
import subprocess
import sys

from virtio.cli.output import emit, say, table


def test_columns_are_aligned_and_lines_end_clean():
    assert table([("a", 1, ""), ("bbb", 22, "x")]) == "a    1\nbbb  22  x"
    assert table([("a", "b")], headers=("first", "second"), indent=2) == "  FIRST  SECOND\n  a      b"
    assert table([], headers=("only",)) == "ONLY"


def test_data_and_talk_go_their_ways(capsys):
    emit({"a": 1}, True, str)
    say("hello")
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"a": 1}
    assert captured.err == "hello\n"
    emit([1], False, lambda data: f"{len(data)} thing")
    assert capsys.readouterr().out == "1 thing\n"


def test_talk_that_nobody_reads_any_more_is_no_failure():
    reader, writer = os.pipe()
    os.close(reader)
    script = "from virtio.cli.output import say; say('one'); say('two'); print('done')"
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=writer, check=False)
    os.close(writer)
    assert (done.stdout, done.returncode) == (b"done\n", 0)
