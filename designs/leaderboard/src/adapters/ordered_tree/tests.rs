//! The log and its snapshots: whatever happens to the files, the boards are what they were or the server does not start.

use std::collections::BTreeMap;
use std::fs;

use proptest::prelude::*;
use proptest::test_runner::Config;
use tempfile::TempDir;

use super::*;
use crate::domain::{Change, EventId, Order, Period, Place, Policy, Ranking, Score};

const BOUNDS: Bounds = Bounds {
    boards: 10,
    members: 1_000,
};

/// Everything that can be asked of a state.
type All = (Vec<String>, BTreeMap<String, (u64, Vec<(String, Place)>)>, String);

fn all(state: &State) -> All {
    let mut boards: Vec<String> = state.boards().map(|board| format!("{board:?}")).collect();
    boards.sort_unstable();
    let sheets = state
        .sheets()
        .filter(|(_, sheet)| sheet.count() > 0 || sheet.reached() > 0);
    let sheets = sheets.map(|(edition, sheet)| {
        let lines = sheet.entries().map(|(name, place)| (name.to_owned(), place));
        (format!("{edition:?}"), (sheet.reached(), lines.collect()))
    });
    let (hour, this_hour, last_hour) = state.events().parts();
    let sorted = |events: &events::Digests| std::collections::BTreeSet::from_iter(events.iter().copied());
    let events = format!("{hour} {:?} {:?}", sorted(this_hour), sorted(last_hour));
    (boards, sheets.collect(), events)
}

fn edition(number: u64) -> Edition {
    Edition {
        board: BoardName::new("b").unwrap(),
        number,
        forgotten_at: (number > 0).then_some(number * 10_000_000),
    }
}

fn member(nth: u8) -> Member {
    Member::new(&format!("m{nth}")).unwrap()
}

fn commands() -> impl Strategy<Value = Vec<Command>> {
    let settings = Settings {
        policy: Policy::Sum,
        ranking: Ranking::Ordinal,
        order: Order::HighFirst,
        period: Period::Daily,
    };
    let submission = (
        0..20_u8,
        0..3_u8,
        -9..9_i64,
        proptest::option::of(0..9_u8),
        0..9_000_000_u64,
    );
    let submission = submission.prop_map(|(nth, kind, score, event, at_ms)| {
        let score = Score::new(score).unwrap();
        Submission {
            member: member(nth),
            change: [Change::RaiseTo(score), Change::SetTo(score), Change::Add(score)][usize::from(kind)],
            event: event.and_then(|event| EventId::new(&event.to_string())),
            at_ms,
        }
    });
    let command = prop_oneof![
        8 => (0..3_u64, proptest::collection::vec(submission, 1..4))
            .prop_map(|(number, submissions)| Command::Load(edition(number), submissions)),
        2 => (0..3_u64, 0..20_u8).prop_map(|(number, nth)| Command::Remove(edition(number), member(nth))),
        1 => (0..30_000_000_u64).prop_map(Command::Forget),
        1 => (0..15_u8).prop_map(move |nth| {
            Command::Create(BoardName::new(&format!("b{nth}")).unwrap(), settings)
        }),
    ];
    proptest::collection::vec(command, 1..60)
}

fn frame(command: &Command) -> Vec<u8> {
    let mut frame = Frame::new();
    for record in Record::of(command) {
        write_record(&record, &mut frame).unwrap();
    }
    frame.finish().unwrap()
}

/// How long a log is that was begun, and says within which bounds.
fn begun() -> usize {
    frames::empty().len() + frame(&Command::Limit(BOUNDS)).len()
}

/// Writes commands as a server does; each that `rolls` says is the last of its log.
fn write(folder: &TempDir, commands: &[Command], rolls: &[usize]) -> State {
    let (mut log, mut state) = Log::open(folder.path(), BOUNDS).unwrap();
    for (nth, command) in commands.iter().enumerate() {
        log.append(&frame(command)).unwrap();
        state.apply(command.clone());
        if rolls.contains(&nth) {
            log.roll().unwrap();
        }
    }
    state
}

fn reread(folder: &TempDir) -> io::Result<State> {
    Log::open(folder.path(), BOUNDS).map(|(_, state)| state)
}

fn names(folder: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(folder.path()).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    names
}

proptest! {
    #![proptest_config(Config { cases: 60, failure_persistence: None, ..Config::default() })]

    #[test]
    fn a_restart_gives_the_same_boards_with_and_without_snapshots(
        commands in commands(),
        rolls in proptest::collection::vec(0..60_usize, 0..4),
        made in 0..4_u64,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let state = write(&folder, &commands, &rolls);
        prop_assert_eq!(all(&reread(&folder).unwrap()), all(&state));
        let logs = names(&folder).iter().filter(|name| name.starts_with("log-")).count() as u64;
        if made > 0 && made < logs {
            let snapshot = make_snapshot(folder.path(), made + 1, &AtomicBool::new(false)).unwrap();
            prop_assert!(snapshot.is_some());
            prop_assert!(!names(&folder).contains(&format!("log-{made}")), "what is in a snapshot is needed no more");
        }
        prop_assert_eq!(all(&reread(&folder).unwrap()), all(&state));
    }

    #[test]
    fn a_log_that_breaks_off_anywhere_is_what_was_whole_before(commands in commands(), part in 0.0..1.0_f64) {
        let folder = tempfile::tempdir().unwrap();
        write(&folder, &commands, &[]);
        let path = folder.path().join("log-1");
        let whole = fs::read(&path).unwrap();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of a length")]
        let length = (whole.len() as f64 * part) as usize;
        fs::write(&path, &whole[..length]).unwrap();
        let mut expected = State::new();
        let mut end = begun();
        for command in &commands {
            end += frame(command).len();
            if end <= length {
                expected.apply(command.clone());
            }
        }
        prop_assert_eq!(all(&reread(&folder).unwrap()), all(&expected));
        // And it goes on from there.
        let more = Command::Load(edition(0), vec![Submission {
            member: member(0),
            change: Change::Add(Score::new(1).unwrap()),
            event: None,
            at_ms: 0,
        }]);
        write(&folder, std::slice::from_ref(&more), &[]);
        expected.apply(more);
        prop_assert_eq!(all(&reread(&folder).unwrap()), all(&expected));
    }
}

fn submit(nth: u8, score: i64) -> Command {
    let submission = Submission {
        member: member(nth),
        change: Change::SetTo(Score::new(score).unwrap()),
        event: None,
        at_ms: 0,
    };
    Command::Submit(edition(0), submission)
}

#[test]
fn a_damaged_log_stops_the_start_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder, &[submit(1, 1), submit(2, 2), submit(3, 3)], &[]);
    let path = folder.path().join("log-1");
    let mut bytes = fs::read(&path).unwrap();
    let middle = begun() + frame(&submit(1, 1)).len() + 15;
    bytes[middle] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let error = reread(&folder).err().unwrap();
    assert!(error.to_string().contains("log-1: the frame at byte"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), bytes, "the file is as it was");
}

#[test]
fn a_log_before_others_may_not_break_off_and_none_may_be_missing() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder, &[submit(1, 1), submit(2, 2)], &[0]);
    let first = folder.path().join("log-1");
    let bytes = fs::read(&first).unwrap();
    fs::write(&first, &bytes[..bytes.len() - 1]).unwrap();
    let error = reread(&folder).err().unwrap();
    assert!(error.to_string().contains("another log follows"), "{error}");
    fs::remove_file(&first).unwrap();
    assert_eq!(reread(&folder).err().unwrap().kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_snapshot_that_is_not_whole_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder, &[submit(1, 1), submit(2, 2), submit(3, 3)], &[1]);
    make_snapshot(folder.path(), 2, &AtomicBool::new(false)).unwrap();
    let path = folder.path().join("snapshot-2");
    let bytes = fs::read(&path).unwrap();
    for length in [0, 8, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&path, &bytes[..length]).unwrap();
        let error = reread(&folder).err().unwrap();
        assert!(
            error.to_string().contains("snapshot-2: it breaks off"),
            "{length}: {error}"
        );
    }
}

/// It may be what has filled the disk; and a kill leaves it to the next start.
#[test]
fn a_snapshot_that_was_not_finished_is_taken_away_and_the_files_before_it_stay() {
    let folder = tempfile::tempdir().unwrap();
    let state = write(&folder, &[submit(1, 1), submit(2, 2), submit(3, 3)], &[1]);
    let told = AtomicBool::new(true);
    assert!(make_snapshot(folder.path(), 2, &told).unwrap().is_none());
    assert_eq!(names(&folder), ["lock", "log-1", "log-2"]);
    fs::write(folder.path().join("snapshot.unfinished"), "half").unwrap();
    assert_eq!(all(&reread(&folder).unwrap()), all(&state));
    assert_eq!(names(&folder), ["lock", "log-1", "log-2"]);
}

#[test]
fn two_servers_do_not_share_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let first = Log::open(folder.path(), BOUNDS).unwrap();
    let error = Log::open(folder.path(), BOUNDS).err().unwrap();
    assert!(error.to_string().contains("another server has"), "{error}");
    drop(first);
    assert!(Log::open(folder.path(), BOUNDS).is_ok());
}

/// A restart with other flags carries out the log as it was carried out, and not as it would be now.
#[test]
fn what_was_decided_within_other_bounds_stays_decided() {
    let folder = tempfile::tempdir().unwrap();
    let open = |members| Log::open(folder.path(), Bounds { boards: 10, members }).unwrap();
    let count = |state: &State| state.sheet(&edition(0)).map_or(0, Sheet::count);
    let submit_all = |members, names: std::ops::Range<u8>| {
        let (mut log, mut state) = open(members);
        for nth in names {
            let command = submit(nth, 1);
            log.append(&frame(&command)).unwrap();
            state.apply(command);
        }
        count(&state)
    };
    assert_eq!(submit_all(2, 0..3), 2);
    assert_eq!(submit_all(5, 0..0), 2, "who was refused is not let in by a restart");
    assert_eq!(submit_all(5, 3..6), 5);
    assert_eq!(submit_all(1, 6..7), 5, "who was let in stays, and nobody else is");
    assert_eq!(open(1).0.roll().unwrap(), 2);
    make_snapshot(folder.path(), 2, &AtomicBool::new(false)).unwrap();
    assert_eq!(submit_all(1, 7..8), 5, "and a snapshot says the same");
}

#[test]
fn members_and_boards_are_bounded() {
    let mut state = State::new();
    state.apply(Command::Limit(Bounds { boards: 1, members: 2 }));
    let standing = |state: &mut State, nth| match state.apply(submit(nth, 1)) {
        Answer::Submitted(standing) => standing,
        other => panic!("{other:?}"),
    };
    assert!(standing(&mut state, 1).is_ok() && standing(&mut state, 2).is_ok());
    assert!(matches!(standing(&mut state, 3), Err(Error::Full(_))));
    assert!(standing(&mut state, 2).is_ok(), "whoever is there may go on");
    state.apply(Command::Remove(edition(0), member(1)));
    assert!(standing(&mut state, 3).is_ok(), "and whoever leaves makes room");
    let settings = Settings {
        policy: Policy::Best,
        ranking: Ranking::Ordinal,
        order: Order::HighFirst,
        period: Period::AllTime,
    };
    let create = |state: &mut State, name| state.apply(Command::Create(BoardName::new(name).unwrap(), settings));
    assert!(matches!(create(&mut state, "a"), Answer::Created(Ok(_))));
    assert!(matches!(
        create(&mut state, "b"),
        Answer::Created(Err(Error::TooManyBoards))
    ));
    assert!(matches!(create(&mut state, "a"), Answer::Created(Ok(_))));
}

#[test]
fn an_edition_is_forgotten_at_its_time_with_its_members() {
    let mut state = State::new();
    let old = Command::Submit(
        edition(1),
        match submit(1, 1) {
            Command::Submit(_, submission) => submission,
            other => panic!("{other:?}"),
        },
    );
    state.apply(old);
    state.apply(Command::Forget(9_999_999));
    assert!(state.sheet(&edition(1)).is_some());
    state.apply(Command::Forget(10_000_000));
    assert!(state.sheet(&edition(1)).is_none());
}
