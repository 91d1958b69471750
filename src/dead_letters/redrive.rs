//! What of a dead letter is published again, and when no more. Values without I/O; `cli` fetches and publishes.

use rdkafka::Message;
use serde_json::Value;
use ticket_schemas::{DlqOriginal, DlqRecord, Ticket, encode_json_ticket};
use ticket_workflows::RecordPosition;

use super::letter::{Headers, Letter, headers_of};
use super::lineage::{Lineage, ORIGIN_HEADER, redrive_count, texts};
use super::text::shown;

/// Longest code quoted, in characters: a foreign record may have any.
const MAX_CODE_CHARS: usize = 80;

/// Why a dead letter is not re-driven.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RedriveError {
    /// The loop breaker.
    #[error(
        "it was re-driven {count} time(s) and dead-lettered again each time, the limit is {limit}: mend the cause ({code}), \
         or raise --max-redrives"
    )]
    Limit {
        /// How often it was re-driven.
        count: u32,
        /// The limit.
        limit: u32,
        /// Code of the last error.
        code: String,
    },
    /// The record is no dead letter.
    #[error("it is no dead letter ({reason}): look at it with `dlq show`, publish tickets with `submit`")]
    NotALetter {
        /// Why.
        reason: String,
    },
    /// The dead letter does not say where its record was.
    #[error("the dead letter does not name its source topic: use --to tickets")]
    SourceUnknown,
    /// The original was a tombstone.
    #[error("the original record has no value (a tombstone): there is nothing to run; give it a body with --edit")]
    NothingToRun,
    /// The dead letter does not hold all of the original, and its source does not either.
    #[error("{missing}, and {place}: publish the ticket anew, or give it a body with --edit")]
    OriginalGone {
        /// What the dead letter lacks.
        missing: &'static str,
        /// What was found at its source.
        place: String,
    },
}

impl RedriveError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Limit { .. } => "redrive_limit_reached",
            Self::NotALetter { .. } => "redrive_not_a_dead_letter",
            Self::SourceUnknown => "redrive_source_unknown",
            Self::NothingToRun => "redrive_nothing_to_run",
            Self::OriginalGone { .. } => "redrive_original_gone",
        }
    }
}

/// A record to publish, but for its lineage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub value: Vec<u8>,
    /// Headers of the original.
    pub headers: Headers,
    /// What it is, for people.
    pub what: &'static str,
}

/// Where the original is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Original {
    /// In the dead letter.
    Here(Body),
    /// Still in the topic that it was read from, perhaps.
    At {
        /// Its position.
        position: RecordPosition,
        /// What the dead letter lacks.
        missing: &'static str,
    },
}

/// The record that a dead letter is about.
///
/// # Errors
/// When there is none that could be published.
pub fn original(letter: &Letter) -> Result<Original, RedriveError> {
    let record = record(letter)?;
    let missing = match record.original() {
        Ok(DlqOriginal::Whole(value)) if record.has_whole_key_and_headers() => {
            return Ok(Original::Here(Body {
                key: record.original_key(),
                value,
                headers: record.original_headers(),
                what: "the original bytes",
            }));
        }
        Ok(DlqOriginal::Whole(_)) => "the dead letter does not hold the whole key or all headers",
        Ok(DlqOriginal::Tombstone) => return Err(RedriveError::NothingToRun),
        Ok(DlqOriginal::Cut) => "the dead letter holds only the beginning of the original",
        Ok(DlqOriginal::NotRecorded) => match documented(record) {
            Some(body) => return Ok(Original::Here(body)),
            None => "the dead letter does not hold the original",
        },
        Err(_) => "the original in the dead letter is damaged",
    };
    match record.source() {
        Some((topic, partition, offset)) => {
            Ok(Original::At { position: RecordPosition { topic: topic.to_owned(), partition, offset }, missing })
        }
        None => Err(RedriveError::OriginalGone { missing, place: "it does not name its source".to_owned() }),
    }
}

/// The original as it was found at `position`.
///
/// # Errors
/// When it is not there any more.
pub fn from_source(
    letter: &Letter,
    position: &RecordPosition,
    missing: &'static str,
    found: Option<&impl Message>,
) -> Result<Body, RedriveError> {
    let record = record(letter)?;
    let gone = |place: String| Err(RedriveError::OriginalGone { missing, place });
    let Some(found) = found else {
        return gone(format!("there is no record at {position} any more"));
    };
    match found.payload() {
        Some(value) if record.is_original(value) => Ok(Body {
            key: found.key().map(<[u8]>::to_vec),
            value: value.to_vec(),
            headers: headers_of(found).0,
            what: "the original bytes, from their source",
        }),
        _ => gone(format!("the record at {position} is another one")),
    }
}

/// The platform's procedure (`contracts/kafka.md §9.2`), for records that hold no original bytes.
fn documented(record: &DlqRecord) -> Option<Body> {
    let object = record.redrive_object()?;
    Some(Body {
        key: Some(record.ticket_id().as_bytes().to_vec()),
        value: Value::Object(object).to_string().into_bytes(),
        headers: Headers::new(),
        what: "the ticket of the platform's record, status PENDING",
    })
}

/// `ticket` in the place of the original: under its key, with its headers.
///
/// # Errors
/// When the letter is no dead letter.
pub fn edited(letter: &Letter, ticket: &Ticket) -> Result<Body, RedriveError> {
    let record = record(letter)?;
    Ok(Body {
        key: Some(record.original_key().unwrap_or_else(|| ticket.ticket_id.as_str().into())),
        value: encode_json_ticket(ticket),
        headers: record.original_headers(),
        what: "the edited ticket",
    })
}

impl Lineage {
    /// The lineage of a dead letter that is re-driven now, unless that has happened too often.
    ///
    /// # Errors
    /// The loop breaker's.
    pub fn next(letter: &Letter, id: &str, by: &str, limit: u32) -> Result<Self, RedriveError> {
        let record = record(letter)?;
        let headers = record.original_headers();
        let count = redrive_count(&headers);
        if count >= limit {
            return Err(RedriveError::Limit { count, limit, code: shown(letter.code(), MAX_CODE_CHARS) });
        }
        let source = || record.source().map(|(topic, partition, offset)| format!("{topic}/{partition}@{offset}"));
        Ok(Self {
            id: id.to_owned(),
            count: count + 1,
            letter: letter.position.to_string(),
            origin: texts(&headers, ORIGIN_HEADER).next().map(str::to_owned).or_else(source),
            by: by.to_owned(),
        })
    }
}

fn record(letter: &Letter) -> Result<&DlqRecord, RedriveError> {
    letter.content.as_ref().map_err(|error| RedriveError::NotALetter { reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use rdkafka::Timestamp;
    use rdkafka::message::OwnedMessage;
    use serde_json::json;
    use ticket_schemas::{DlqEnvelope, DlqHeader, DlqSource, MAX_DLQ_ORIGINAL_BYTES, decode_json_ticket};

    use super::super::letter::tests::{DOCUMENT, NORMAL, UNDECODABLE, letter};
    use super::super::lineage::{COUNT_HEADER, LETTER_HEADER};
    use super::*;

    /// A dead letter of ours about a record with this value and these headers.
    fn ours(value: Option<&[u8]>, key: Option<&[u8]>, headers: &Headers) -> Letter {
        let headers: Vec<_> = headers.iter().map(|(key, value)| DlqHeader { key, value: value.as_deref() }).collect();
        let envelope = DlqEnvelope {
            original: None,
            ticket_id_hint: None,
            task_type_hint: None,
            key,
            value,
            headers: &headers,
            headers_incomplete: false,
            source: DlqSource { topic: "execution.tickets", partition: 3, offset: 11, timestamp: Some(1) },
            error: "broken",
            error_type: "invalid_json",
            error_code: "invalid_json",
            retry_count: 1,
            last_failure_at_ms: 1,
            published_at_ms: 1,
            software_version: "0",
        };
        letter(17, &envelope.to_json_bytes())
    }

    fn here(letter: &Letter) -> Body {
        match original(letter) {
            Ok(Original::Here(body)) => body,
            other => panic!("{other:?}"),
        }
    }

    fn code(result: Result<impl std::fmt::Debug, RedriveError>) -> &'static str {
        result.expect_err("refused").code()
    }

    fn at_source(value: Option<&[u8]>) -> OwnedMessage {
        let time = Timestamp::CreateTime(1);
        let key = Some(b"plan".to_vec());
        OwnedMessage::new(value.map(<[u8]>::to_vec), key, "execution.tickets".to_owned(), time, 3, 11, None)
    }

    #[test]
    fn bytes_key_and_headers_come_back_as_they_were() {
        let headers =
            vec![("b".to_owned(), Some(vec![0, 255])), ("e".to_owned(), None), ("b".to_owned(), Some(vec![]))];
        for value in [&b"\xff\0\x01"[..], b"", b"{\"ticket_id\": "] {
            for key in [Some(&b"\xfe"[..]), None, Some(b"")] {
                let body = here(&ours(Some(value), key, &headers));
                assert_eq!((body.value.as_slice(), body.key.as_deref(), &body.headers), (value, key, &headers));
            }
        }
    }

    #[test]
    fn a_platforms_record_is_re_driven_as_documented() {
        for value in [NORMAL, DOCUMENT] {
            let body = here(&letter(1, value));
            let ticket: Value = serde_json::from_slice(&body.value).expect("JSON");
            for key in ["_id", "dlq_metadata", "processed_at", "processed_at_ms"] {
                assert!(ticket.get(key).is_none(), "{key}");
            }
            assert_eq!(ticket["status"], "PENDING");
            assert_eq!(body.key.as_deref(), ticket["ticket_id"].as_str().map(str::as_bytes));
            assert!(decode_json_ticket(&body.value).is_ok());
        }
    }

    #[test]
    fn what_is_not_whole_is_looked_for_at_its_source() {
        let large = vec![b'x'; MAX_DLQ_ORIGINAL_BYTES + 1];
        let cut = ours(Some(&large), None, &Headers::new());
        let long_key = ours(Some(b"{}"), Some(&vec![b'k'; 5000]), &Headers::new());
        let many = (0..100).map(|n| (n.to_string(), None)).collect();
        let many_headers = ours(Some(b"{}"), None, &many);
        let mut damaged: Value = serde_json::from_slice(&ours(Some(b"{}"), None, &many).value).expect("JSON");
        damaged["dlq_metadata"]["original_value_base64"] = json!("YWJk");
        for incomplete in [cut.clone(), long_key, many_headers, letter(1, damaged.to_string().as_bytes())] {
            let Ok(Original::At { position, .. }) = original(&incomplete) else {
                panic!("{:?}", original(&incomplete))
            };
            assert_eq!(position.to_string(), "execution.tickets/3@11");
        }
        let position = RecordPosition { topic: "execution.tickets".to_owned(), partition: 3, offset: 11 };
        let body = from_source(&cut, &position, "m", Some(&at_source(Some(&large)))).expect("found");
        assert_eq!((body.value, body.key.as_deref()), (large, Some(&b"plan"[..])));
        // The platform's records have no checksum; the beginning must be the same.
        let platforms = letter(1, UNDECODABLE);
        assert!(matches!(original(&platforms), Ok(Original::At { .. })));
        let same = at_source(Some(b"\xff{\"ticket_id\": \"broken"));
        assert!(from_source(&platforms, &position, "m", Some(&same)).is_ok());
        for other in [Some(at_source(Some(b"other"))), Some(at_source(None)), None] {
            let gone = from_source(&cut, &position, "it is cut", other.as_ref()).expect_err("gone");
            assert_eq!(gone.code(), "redrive_original_gone");
            let said = gone.to_string();
            assert!(said.contains("execution.tickets/3@11") && said.contains("--edit"), "{said}");
        }
    }

    #[test]
    fn what_cannot_run_is_refused_with_a_reason() {
        assert_eq!(code(original(&ours(None, None, &Headers::new()))), "redrive_nothing_to_run");
        assert_eq!(code(original(&letter(1, b"garbage"))), "redrive_not_a_dead_letter");
        assert_eq!(code(original(&letter(1, b"{}"))), "redrive_not_a_dead_letter");
        let nowhere = br#"{"_deserialization_error": true, "dlq_metadata": {}}"#;
        assert_eq!(code(original(&letter(1, nowhere))), "redrive_original_gone");
    }

    #[test]
    fn the_loop_breaker_counts_through_the_dead_letters() {
        let mut headers = vec![("traceparent".to_owned(), Some(b"00-1".to_vec()))];
        for round in 1..=3 {
            let letter = ours(Some(b"{"), None, &headers);
            let lineage = Lineage::next(&letter, "id", "ops@host", 3).expect("within the limit");
            assert_eq!((lineage.count, lineage.origin.as_deref()), (round, Some("execution.tickets/3@11")));
            headers = lineage.on(&here(&letter).headers);
            assert_eq!(texts(&headers, LETTER_HEADER).next(), Some("execution.tickets.dlq/0@17"));
        }
        let tired = ours(Some(b"{"), None, &headers);
        let refused = Lineage::next(&tired, "id", "ops@host", 3).expect_err("the limit");
        assert_eq!(refused.code(), "redrive_limit_reached");
        let said = refused.to_string();
        assert!(
            said.contains("3 time(s)") && said.contains("invalid_json") && said.contains("--max-redrives"),
            "{said}"
        );
        assert_eq!(Lineage::next(&tired, "id", "ops@host", 4).map(|lineage| lineage.count), Ok(4));
        assert_eq!(headers.iter().filter(|(name, _)| name == COUNT_HEADER).count(), 1);
    }

    #[test]
    fn the_count_survives_a_record_with_too_many_headers() {
        let mut headers: Headers = (0..64).map(|n| (format!("h{n}"), Some(vec![b'x'; 900]))).collect();
        let letter = ours(Some(b"{"), None, &headers);
        headers = Lineage::next(&letter, "id", "ops@host", 3).expect("first").on(&here(&letter).headers);
        let again = ours(Some(b"{"), None, &headers);
        assert_eq!(redrive_count(&again.content.expect("ours").original_headers()), 1);
    }

    #[test]
    fn an_edited_ticket_keeps_key_and_headers() {
        let headers = vec![("traceparent".to_owned(), Some(b"00-1".to_vec()))];
        let text =
            br#"{"ticket_id": "t", "task_id": "t", "task_type": "EXECUTE", "status": "PENDING", "dependencies": []}"#;
        let ticket = decode_json_ticket(text).expect("ticket");
        let body = edited(&ours(None, Some(b"plan"), &headers), &ticket).expect("edited");
        assert_eq!((body.key.as_deref(), &body.headers), (Some(&b"plan"[..]), &headers));
        assert!(decode_json_ticket(&body.value).is_ok_and(|read| read == ticket));
        let keyless = edited(&ours(None, None, &headers), &ticket).expect("edited");
        assert_eq!(keyless.key.as_deref(), Some(&b"t"[..]));
    }
}
