"""image.py OUT BUSYBOX NAME...: an image archive with nothing but a static busybox, under these names.

What calls itself python runs the one program that tests give it.
"""

import hashlib
import io
import json
import subprocess
import sys
import tarfile

PYTHON = """#!/bin/sh
[ "$1" = -c ] || exit 2
exec sed -n "s/^print('\\\\(.*\\\\)')$/\\\\1/p" <<END
$2
END
"""


def layer(busybox):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:

        def folder(path, mode=0o755):
            entry = tarfile.TarInfo(path)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            archive.addfile(entry)

        def file(path, data, mode=0o644):
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(data), mode
            archive.addfile(entry, io.BytesIO(data))

        for path in ("bin", "etc", "srv"):
            folder(path)
        folder("tmp", 0o1777)
        with open(busybox, "rb") as program:
            file("bin/busybox", program.read(), 0o755)
        for applet in subprocess.check_output([busybox, "--list"], text=True).split():
            if applet != "busybox":
                entry = tarfile.TarInfo(f"bin/{applet}")
                entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
                archive.addfile(entry)
        file("bin/python", PYTHON.encode(), 0o755)
        file("etc/passwd", b"root:x:0:0:root:/:/bin/sh\nuser:x:1000:1000:user:/:/bin/sh\n")
        file("etc/group", b"root:x:0:\nuser:x:1000:\n")
    return buffer.getvalue()


def main(out, busybox, names):
    content = layer(busybox)
    digest = hashlib.sha256(content).hexdigest()
    config = json.dumps({
        "architecture": "amd64",
        "os": "linux",
        # What keeps a pod's namespaces, where no other command is given.
        "config": {
            "Env": ["PATH=/bin"],
            "Cmd": ["sh", "-c", "trap 'exit 0' TERM INT; while :; do sleep 3600 & wait $!; done"],
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }).encode()
    config_name = hashlib.sha256(config).hexdigest() + ".json"
    manifest = json.dumps([{"Config": config_name, "RepoTags": names, "Layers": ["layer.tar"]}]).encode()
    with tarfile.open(out, "w") as archive:
        for name, data in (("layer.tar", content), (config_name, config), ("manifest.json", manifest)):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
