"""What scripts/real/kafka asks of its brokers: whether they are ready, new topics, other passwords."""

import argparse
import functools
import logging
import re
import socket
import struct
import sys
import time


class Reader:
    """The types of Kafka's protocol out of a response."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, form):
        (value,) = struct.unpack_from(">" + form, self.data, self.at)
        self.at += struct.calcsize(">" + form)
        return value

    def string(self):
        length = max(self.take("h"), 0)
        self.at += length
        return self.data[self.at - length:self.at].decode()

    def array(self, element):
        return [element() for _ in range(self.take("i"))]


def receive(connection, length):
    data = b""
    while len(data) < length:
        part = connection.recv(length - len(data))
        if not part:
            raise OSError("closed by the broker")
        data += part
    return data


def metadata(address):
    """The ids of the live brokers and the number of partitions without a leader, as the broker at `address` knows them.

    One hand-made Metadata request (version 1), because a client would go on to ask whichever broker it likes.
    """
    host, port = address.rsplit(":", 1)
    client = b"worker-agents-real"
    request = struct.pack(">hhih", 3, 1, 1, len(client)) + client + struct.pack(">i", -1)
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        (length,) = struct.unpack(">i", receive(connection, 4))
        answer = Reader(receive(connection, length))

    def broker():
        node = answer.take("i")
        answer.string(), answer.take("i"), answer.string()
        return node

    def partition():
        answer.take("h"), answer.take("i")
        leader = answer.take("i")
        answer.array(lambda: answer.take("i")), answer.array(lambda: answer.take("i"))
        return leader

    def topic():
        answer.take("h"), answer.string(), answer.take("b")
        return answer.array(partition)

    answer.take("i")
    brokers = answer.array(broker)
    answer.take("i")
    leaders = [leader for topic_leaders in answer.array(topic) for leader in topic_leaders]
    return brokers, sum(leader < 0 for leader in leaders)


def lives(pid):
    """Whether the process is there and not a zombie."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
            return stat.read().rpartition(") ")[2][0] not in "ZX"
    except OSError:
        return False


def lacks(address, options):
    """Why the broker at `address` is not ready; nothing when it is."""
    try:
        brokers, leaderless = metadata(address)
    except (OSError, struct.error) as error:
        return f"{address} does not answer: {error}"
    if len(brokers) < options.brokers:
        return f"{address} knows {len(brokers)} of {options.brokers} brokers"
    if leaderless and options.leaders:
        return f"{address} knows {leaderless} partitions without a leader"
    return None


def ready(options):
    deadline = time.monotonic() + options.seconds
    while True:
        reasons = [lacks(address, options) for address in options.address]
        reason = next(filter(None, reasons), None)
        if reason is None:
            return None
        if time.monotonic() > deadline:
            return f"not ready after {options.seconds} s: {reason}"
        if not all(map(lives, options.pid)):
            return f"a broker has ended: {reason}"
        time.sleep(0.1)


def parse_topic(text, replicas):
    """`name:partitions[:key=value,...]`; a comma inside a value stays there, as in cleanup.policy=compact,delete."""
    match = re.fullmatch(r"([A-Za-z0-9._-]+):([1-9][0-9]*)(?::(.+))?", text)
    settings = re.split(r",(?=[a-z.]+=)", match[3]) if match and match[3] else []
    if not match or not all("=" in setting for setting in settings):
        raise SystemExit(f"topic {text!r} is not NAME:PARTITIONS[:key=value,...]")
    configs = dict(setting.split("=", 1) for setting in settings)
    return match[1], {"num_partitions": int(match[2]), "replication_factor": replicas, "configs": configs}


def patiently(ask):
    """Asks again while brokers come and go, as after a kill; says why when the time is over."""

    @functools.wraps(ask)
    def asked(options):
        from kafka.errors import KafkaError

        deadline = time.monotonic() + options.seconds
        while True:
            try:
                return ask(options)
            except (KafkaError, OSError) as error:
                if time.monotonic() > deadline:
                    return f"no answer within {options.seconds} s: {error}"
            time.sleep(0.3)

    return asked


@patiently
def offsets(options):
    from kafka.admin import KafkaAdminClient, OffsetSpec

    logging.disable(logging.CRITICAL)
    with KafkaAdminClient(bootstrap_servers=options.servers.split(","), bootstrap_timeout_ms=5000) as admin:
        committed = admin.list_group_offsets(options.group)[options.group]
        ends = admin.list_partition_offsets({partition: OffsetSpec.LATEST for partition in committed})
    for partition in sorted(committed):
        print(f"{partition.topic}/{partition.partition}={committed[partition].offset}/{ends[partition].offset}")
    return None


@patiently
def topics(options):
    from kafka.admin import KafkaAdminClient

    logging.disable(logging.CRITICAL)
    wanted = dict(parse_topic(text, options.replicas) for text in options.topic)
    with KafkaAdminClient(bootstrap_servers=options.servers.split(","), bootstrap_timeout_ms=5000) as admin:
        answers = admin.create_topics(wanted, raise_errors=False)["topics"]
        refused = [f"{answer['name']}: {answer.get('error_message') or answer['error_code']}"
                   for answer in answers if answer["error_code"] != 0]
        if refused:
            return "not created: " + "; ".join(refused)
        # Created means that the controller knows it; a producer asks a broker.
        admin.wait_for_topics(list(wanted), timeout_ms=30000)
    return None


def password(options):
    from kafka.admin import KafkaAdminClient, UserScramCredentialUpsertion

    logging.disable(logging.CRITICAL)
    change = UserScramCredentialUpsertion(options.user, options.mechanism, options.password)
    with KafkaAdminClient(bootstrap_servers=options.servers.split(",")) as admin:
        problem = admin.alter_user_scram_credentials([change])[options.user]
    return problem and f"not changed: {problem}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("ready", help="waits until every address answers for the whole cluster")
    command.add_argument("--brokers", type=int, required=True)
    command.add_argument("--leaders", action="store_true", help="and until every partition has a leader")
    command.add_argument("--seconds", type=int, required=True)
    command.add_argument("--pid", type=int, action="append", default=[], help="give up when this process ends")
    command.add_argument("address", nargs="+")
    command.set_defaults(run=ready)
    command = commands.add_parser("offsets", help="prints what a group has committed, and where its partitions end")
    command.add_argument("--servers", required=True)
    command.add_argument("--group", required=True)
    command.add_argument("--seconds", type=int, required=True)
    command.set_defaults(run=offsets)
    command = commands.add_parser("topics", help="creates topics and waits until they have leaders")
    command.add_argument("--servers", required=True)
    command.add_argument("--replicas", type=int, required=True)
    command.add_argument("--seconds", type=int, required=True)
    command.add_argument("topic", nargs="+")
    command.set_defaults(run=topics)
    command = commands.add_parser("password", help="gives a SCRAM user another password")
    command.add_argument("--servers", required=True)
    command.add_argument("--user", required=True)
    command.add_argument("--mechanism", required=True)
    command.add_argument("password")
    command.set_defaults(run=password)
    options = parser.parse_args()
    problem = options.run(options)
    if problem:
        print(problem, file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
