"""Creates the functions of the tests in moto, whose address is the one argument. They run no code: `use_docker` is false."""

import io
import json
import sys
import urllib.request
import zipfile

import boto3

NAMES = ["neural-hive-executor", "echo", "failing", "event", "killed", "once", "cancelled", "late"]


def code() -> bytes:
    """A zip archive, which is what a function is created from."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("app.py", "def handler(event, context):\n    return event\n")
    return archive.getvalue()


def main() -> None:
    url = sys.argv[1]
    body = json.dumps({"lambda": {"use_docker": False}}).encode()
    urllib.request.urlopen(urllib.request.Request(f"{url}/moto-api/config", data=body, method="POST")).read()
    peer = {
        "endpoint_url": url,
        "region_name": "us-east-1",
        "aws_access_key_id": "AKIAIOSFODNN7EXAMPLE",
        "aws_secret_access_key": "of-the-stand-in",
    }
    role = boto3.client("iam", **peer).create_role(RoleName="functions", AssumeRolePolicyDocument="{}")
    functions = boto3.client("lambda", **peer)
    for name in NAMES:
        functions.create_function(
            FunctionName=name,
            Runtime="python3.11",
            Role=role["Role"]["Arn"],
            Handler="app.handler",
            Code={"ZipFile": code()},
        )


main()
