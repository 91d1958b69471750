//! A Produce request by hand: what no client library of this workspace can write.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

/// Writes one record with one header to a partition. Produce version 3, record batch version 2; the mock checks no sums.
pub(crate) fn produce(bootstrap: &str, topic: &str, partition: i32, value: &[u8], header: (&[u8], &[u8])) {
    let mut record = vec![0, 0, 0];
    for field in [b"key".as_slice(), value] {
        varint(&mut record, field.len());
        record.extend_from_slice(field);
    }
    varint(&mut record, 1);
    for field in [header.0, header.1] {
        varint(&mut record, field.len());
        record.extend_from_slice(field);
    }
    let mut batch = Vec::new();
    // Magic, checksum, attributes, last offset's delta, two times, no idempotence, one record.
    batch.extend(0i32.to_be_bytes());
    batch.push(2);
    batch.extend(0u32.to_be_bytes());
    batch.extend(0i16.to_be_bytes());
    batch.extend(0i32.to_be_bytes());
    for _ in 0..2 {
        batch.extend(ticket_activities::now_ms().to_be_bytes());
    }
    batch.extend((-1i64).to_be_bytes());
    batch.extend((-1i16).to_be_bytes());
    batch.extend((-1i32).to_be_bytes());
    batch.extend(1i32.to_be_bytes());
    varint(&mut batch, record.len());
    batch.extend(record);
    let mut records = 0i64.to_be_bytes().to_vec();
    bytes(&mut records, &batch);

    let mut request = Vec::new();
    // Produce, its version, a correlation id, no client id; no transaction, acks of all, a time-out.
    request.extend([0, 0, 0, 3, 0, 0, 0, 7, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    request.extend(10_000i32.to_be_bytes());
    request.extend(1i32.to_be_bytes());
    request.extend(u16::try_from(topic.len()).expect("short").to_be_bytes());
    request.extend_from_slice(topic.as_bytes());
    request.extend(1i32.to_be_bytes());
    request.extend(partition.to_be_bytes());
    bytes(&mut request, &records);
    let mut framed = Vec::new();
    bytes(&mut framed, &request);

    let mut broker = TcpStream::connect(bootstrap).expect("the broker");
    broker.write_all(&framed).expect("sent");
    let mut size = [0; 4];
    broker.read_exact(&mut size).expect("an answer");
    let mut answer = vec![0; u32::from_be_bytes(size) as usize];
    broker.read_exact(&mut answer).expect("the answer");
    // Correlation id, one topic, its name, one partition, its number, the error code.
    let at = 4 + 4 + 2 + topic.len() + 4 + 4;
    assert_eq!(answer[at..at + 2], [0, 0], "refused: {answer:?}");
}

fn bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(u32::try_from(bytes.len()).expect("short").to_be_bytes());
    out.extend_from_slice(bytes);
}

/// A length as the batch format writes it: zigzag, seven bits a byte.
fn varint(out: &mut Vec<u8>, length: usize) {
    let mut rest = length * 2;
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}
