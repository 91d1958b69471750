//! The wire vectors, byte for byte.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod common;

use sha2::{Digest, Sha256};
use ticket_schemas::*;

/// Name, schema id, bytes, SHA-256, whether the maps of the source are sorted so that our bytes must be the same.
const VECTORS: [(&str, u32, usize, &str, bool); 12] = [
    ("ticket-build-code-forge", 1, 725, "54ebf11f66146dc5646e7a1a21c179ed05b2dba4227647e2d0be81e5beff1fc3", false),
    ("ticket-deploy-argocd", 1, 914, "0a27a911ceeaef6fa7f6f82f44bc6a28a47e53bdeb2628f72aa7e51a37760f81", false),
    ("ticket-execute-k8s", 1, 619, "cbefcd087e885821d6a1afe8bf349dbd8307ff0e2828fcca581f70241cd32025", false),
    (
        "ticket-engine-unicode-and-nulls",
        1,
        448,
        "effecf8870b1654b96fee63a726bdf35e39c36a171a12613a095a88ea133b0f7",
        false,
    ),
    (
        "ticket-engine-all-optionals-set",
        1,
        677,
        "6cec188f771ca8a5505d33ac85c39f346c1995884692f50bcacdaa48049eb39c",
        false,
    ),
    (
        "ticket-execute-empty-parameters",
        1,
        438,
        "9852d9cad41747061c81570a6adeba2eeb4f52aa10368ed40d2fb2894bdfd8e7",
        false,
    ),
    (
        "ticket-compensate-deploy-argocd",
        1,
        766,
        "c92005387f6b419012fb73df5bc139ec14ff808b35f217f364d223cd6fa3a84f",
        false,
    ),
    ("result-build-completed", 2, 644, "2ad666f875ee64098b97242bfb31ebcf7d364238a59b4fcee9ea29a784f6397b", false),
    ("result-dependency-failed", 2, 153, "3f90f10f303134cc6096953939abaa64d4b25086c0f0a2274b13328baba42c75", true),
    ("result-minimal", 2, 93, "17468e979df7bfdad6f8368b196c16dc9d27eb9026d0a1f8462149ab11221be1", true),
    ("result-execute-docker-failed", 2, 313, "93521664a04e21f6192c40b0622ec888dd87e3fbb67b9c5fa5ec9d56e75a3c04", false),
    (
        "ticket-build-code-forge-schema-id-65538",
        65_538,
        725,
        "9e7f7f9a2c5642c7a9f97f03749b9653b46c445aec93dd5eb24f19eb61094b31",
        false,
    ),
];

#[test]
fn vectors_decode_to_their_source_and_sorted_ones_encode_to_the_same_bytes() {
    assert_eq!(common::vectors().len(), VECTORS.len());
    for (name, id, size, sha256, same_bytes) in VECTORS {
        let value = common::vector(name);
        let digest: String = Sha256::digest(&value).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!((value.len(), digest.as_str()), (size, sha256), "{name}");

        let Frame::Avro { schema_id, body } = Frame::detect(Some(&value)).unwrap() else { panic!("{name}") };
        assert_eq!(schema_id, id, "{name}");
        let (kind, source) = name.split_once('-').unwrap();
        let source = common::json(&format!("{kind}s/{}.json", source.trim_end_matches("-schema-id-65538")));
        let (decoded, again) = match kind {
            "ticket" => {
                let ticket = decode_avro_ticket(body, &WriterSchema::ticket()).unwrap();
                (ticket.to_json(), encode_avro_ticket(&ticket, id).unwrap())
            }
            _ => {
                let result = decode_avro_result(body, &WriterSchema::result()).unwrap();
                (serde_json::to_value(&result).unwrap(), encode_avro_result(&result, id).unwrap())
            }
        };
        assert_eq!(decoded, source, "{name}");
        // The order of map entries is the only freedom the encoder uses.
        let (mut ours, mut theirs) = (again.clone(), value.clone());
        ours.sort_unstable();
        theirs.sort_unstable();
        assert_eq!(ours, theirs, "{name}");
        assert_eq!(again == value, same_bytes, "{name}");
    }
}
