//! Long sessions for tests, without asking anybody.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::Deployment;

/// Turns that were made long ago, straight into the log.
pub async fn seed(deployment: &Deployment, session: Uuid, turns: usize) {
    let owner: Uuid = sqlx::query_scalar("SELECT owner_id FROM ops.data_keys WHERE root_id = $1")
        .bind(session)
        .fetch_one(&deployment.database.pool)
        .await
        .unwrap();
    let personal = |text: String| json!({ "$personal": text });
    let (mut ids, mut sequences, mut types, mut payloads) = (vec![], vec![], vec![], vec![]);
    let mut parent = Value::Null;
    for n in 0..turns {
        let (turn, answer) = (Uuid::now_v7(), Uuid::now_v7());
        let model = json!({"id": Uuid::nil(), "provider": "demo", "name": "demo"});
        let record = json!({
            "attempt": 1, "model": model, "text": personal(format!("answer {n} {}", "tea ".repeat(60))), "reasoning": null,
            "chunks": "", "usage": {"input": 1, "output": 1, "cached_input": 0, "reasoning": 0, "estimated": false},
            "price_version": "", "cost": 0, "timings": {"queue_ms": 0, "first_chunk_ms": 1, "total_ms": 1}, "request_hash": "",
        });
        let request = json!({"answer_id": answer, "version": 1, "model": model, "params": {}, "key_id": null, "derived_from": []});
        let events = [
            (
                "prompt_posted",
                json!({"session_id": session, "parent": parent, "content": personal(format!("question {n} {}", "tea ".repeat(60)))}),
            ),
            ("answer_requested", request),
            ("attempt_started", json!({"answer_id": answer, "attempt": 1, "worker": "w", "reason": "first"})),
            ("answer_completed", json!({"answer_id": answer, "record": record, "finish": {"reason": "stop"}})),
        ];
        for (index, (name, payload)) in events.into_iter().enumerate() {
            ids.push(turn.to_string());
            sequences.push(i64::try_from(index).unwrap() + 1);
            types.push(name);
            payloads.push(json!({ name: payload }).to_string());
        }
        parent = json!(answer);
    }
    sqlx::query(
        "INSERT INTO events (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata, event_id, \
         root_id, owner_id) SELECT 'turn', e.id, e.sequence, e.type, '1', e.payload::json, '{}', gen_random_uuid(), $5, $6 \
         FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[]) AS e (id, sequence, type, payload)",
    )
    .bind(ids)
    .bind(sequences)
    .bind(types)
    .bind(payloads)
    .bind(session)
    .bind(owner)
    .execute(&deployment.database.pool)
    .await
    .unwrap();
}
