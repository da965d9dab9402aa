//! Answers that are not what KMS would give.

use super::*;

#[tokio::test]
async fn an_answer_kms_would_not_give_is_refused() {
    fn with(asked: &Asked, name: &str, value: Value) -> Reply {
        let mut answer = json!({ "KeyId": KEY, "CiphertextForRecipient": for_recipient(asked) });
        answer[name] = value;
        Reply::Json(200, answer)
    }
    type Script = fn(&Asked) -> Reply;
    let cases: [(&str, Script); 12] = [
        ("kms-answer-plaintext", |a| {
            with(a, "Plaintext", base64::encode(SECRET).into())
        }),
        ("kms-answer-no-recipient", |a| {
            with(a, "CiphertextForRecipient", Value::Null)
        }),
        ("kms-answer-other-key", |a| {
            with(a, "KeyId", OTHER_KEY.into())
        }),
        ("kms-answer-other-key", |a| with(a, "KeyId", Value::Null)),
        ("kms-cms-malformed", |a| {
            with(a, "CiphertextForRecipient", base64::encode("junk").into())
        }),
        ("kms-cms-malformed", |a| {
            let long = envelope(&document(a), &[7; 33]);
            with(a, "CiphertextForRecipient", base64::encode(long).into())
        }),
        ("kms-cms-recipient", |a| {
            let other = recipient::RecipientKey::generate().unwrap();
            let other = envelope(other.public_key(), &SECRET);
            with(a, "CiphertextForRecipient", base64::encode(other).into())
        }),
        ("kms-cms-decryption", |a| {
            let mut changed = envelope(&document(a), &SECRET);
            let last = changed.len() - 13;
            changed[last] ^= 1;
            with(a, "CiphertextForRecipient", base64::encode(changed).into())
        }),
        ("kms-answer-malformed", |_| Reply::Json(200, json!([1]))),
        ("kms-answer-malformed", |_| {
            Reply::Bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{".to_vec())
        }),
        ("kms-answer-malformed", |_| {
            Reply::Bytes(b"220 mail ready\r\n\r\n".to_vec())
        }),
        ("kms-answer-too-large", |_| {
            let head = b"HTTP/1.1 200 OK\r\ncontent-length: 70000\r\n\r\n";
            Reply::Bytes([&head[..], &[b' '; 70_000]].concat())
        }),
    ];
    let codes = cases.map(|(code, _)| code);
    let endpoint = Endpoint::start(HOST, move |asked| cases[asked.before].1(asked));
    let (service, request) = (service(config(&endpoint)), request(endpoint.egress()));
    for (before, code) in codes.into_iter().enumerate() {
        let refused = refusal(&service, true, &request).await;
        assert_eq!(refused.code, code, "{}", refused.message);
        assert_eq!(refused.class, Class::Damaged, "{code}");
        assert_eq!(endpoint.count(), before + 1, "{code}");
    }
}

#[tokio::test]
async fn an_answer_replayed_from_another_request_is_refused() {
    let first = std::sync::Mutex::new(None);
    let endpoint = Endpoint::start(HOST, move |asked| {
        let mut first = first.lock().unwrap();
        let envelope = first.get_or_insert_with(|| for_recipient(asked));
        Reply::Json(
            200,
            json!({ "KeyId": KEY, "CiphertextForRecipient": envelope }),
        )
    });
    let request = request(endpoint.egress());
    let service = service(config(&endpoint));
    let open = || async { service.open_secret(&lock(true), context(&request)).await };
    assert_eq!(open().await.unwrap().secret.expose(), SECRET);
    assert_eq!(open().await.err().unwrap().code, "kms-cms-recipient");
}

#[tokio::test]
async fn an_endless_answer_is_bounded() {
    let (refused, _) = refusal_after(|_| {
        let chunk = b"400\r\n".iter().copied().chain([b' '; 0x400]);
        let mut bytes = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        bytes.extend((0..100).flat_map(|_| chunk.clone().chain(*b"\r\n")));
        Reply::Stall(bytes)
    })
    .await;
    assert_eq!(refused.code, "kms-answer-too-large");
    let (refused, _) =
        refusal_after(|_| Reply::Endless(b"HTTP/1.1 200 OK\r\nx-a: aaaaaaaa".to_vec())).await;
    assert_eq!(refused.code, "kms-answer-malformed");
}
