"""Prepares moto, whose address is the one argument. Its functions run no code: any name is one that answers. Only `broken` exists, for
the other way in which moto has functions (`use_docker`), where one fails that has no engine to run on."""

import io
import json
import sys
import urllib.request
import zipfile

import boto3


def use_docker(url: str, is_on: bool) -> None:
    """Switches between the two ways."""
    body = json.dumps({"lambda": {"use_docker": is_on}}).encode()
    urllib.request.urlopen(urllib.request.Request(f"{url}/moto-api/config", data=body, method="POST")).read()


def code() -> bytes:
    """A zip archive, which is what a function is created from."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("app.py", "def handler(event, context):\n    return event\n")
    return archive.getvalue()


def main() -> None:
    url = sys.argv[1]
    peer = {
        "endpoint_url": url,
        "region_name": "us-east-1",
        "aws_access_key_id": "AKIAIOSFODNN7EXAMPLE",
        "aws_secret_access_key": "of-the-stand-in",
    }
    role = boto3.client("iam", **peer).create_role(RoleName="functions", AssumeRolePolicyDocument="{}")
    use_docker(url, True)
    boto3.client("lambda", **peer).create_function(
        FunctionName="broken",
        Runtime="python3.11",
        Role=role["Role"]["Arn"],
        Handler="app.handler",
        Code={"ZipFile": code()},
    )
    use_docker(url, False)


main()
