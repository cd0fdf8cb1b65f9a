//! What a message that was sent changes: what each addressee was told of each request, and what the caps go by.

use crate::domain::apply::Place;
use crate::domain::ids::RequestId;
use crate::domain::notice::{
    Counted, Delivery, LINES_MAX, LONG_WINDOW_SECONDS, Line, Notice, NoticeKind, counted_row,
};
use crate::domain::state::{Fault, Table, Write, decode, encode};

#[expect(clippy::too_many_arguments, reason = "the members of one event")]
pub(super) fn sent(
    to: &str,
    requests: &[RequestId],
    kind: NoticeKind,
    requester: Option<&str>,
    again: bool,
    deliveries: &[Delivery],
    at: Place,
    state: &mut impl Write,
) -> Result<(), Fault> {
    for request in requests {
        let known: Option<Notice> = state.get(&Notice::row(request, to))?;
        let mut notice = known.unwrap_or_else(|| Notice {
            request: request.clone(),
            to: to.to_owned(),
            first_at: at.time,
            last_at: at.time,
            reminders: 0,
            escalated: false,
            lines: Vec::new(),
        });
        if !again {
            notice.last_at = at.time;
            // A digest tells of new ones and of old ones: for an old one it is a reminder.
            let before = notice.lines.is_empty();
            match kind {
                NoticeKind::Reminder => notice.reminders += 1,
                NoticeKind::Digest if !before => notice.reminders += 1,
                NoticeKind::Escalation => notice.escalated = true,
                NoticeKind::Opened | NoticeKind::Digest | NoticeKind::Alert | NoticeKind::Test => {}
            }
        }
        notice.lines.extend(deliveries.iter().map(|it| Line {
            at: at.time,
            kind,
            delivery: it.clone(),
        }));
        let surplus = notice.lines.len().saturating_sub(LINES_MAX);
        notice.lines.drain(..surplus);
        state.put(&notice)?;
    }
    // Alerts and tests are not what a requester can cause: they use up nothing.
    if !again && !matches!(kind, NoticeKind::Alert | NoticeKind::Test) {
        let counted = Counted {
            at: at.time,
            kind,
            requester: requester.map(str::to_owned),
        };
        for (row, bytes) in state.with_prefix(Table::NoticeTimes, format!("{to}\0").as_bytes())? {
            let old: Counted = decode(&bytes)?;
            if old.at.seconds_until(at.time) < LONG_WINDOW_SECONDS {
                break;
            }
            state.delete_raw(Table::NoticeTimes, &row)?;
        }
        let row = counted_row(to, at.seq);
        state.put_raw(Table::NoticeTimes, row.as_bytes(), &encode(&counted))?;
    }
    Ok(())
}
