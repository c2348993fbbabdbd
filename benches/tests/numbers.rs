//! `lab numbers`: that each number is there, and that none can be written where nothing can be.

use std::process::Command;
use std::time::Duration;

use lab::layout::Layout;
use lab::numbers::{Effort, KEYS, Setup, measure};
use lab::output::progress::Progress;
use lab::stop::Stop;

#[test]
fn every_number_is_measured_and_nothing_is_left_behind() {
    let root = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let setup = Setup {
        layout: &Layout::detect(),
        cores: std::thread::available_parallelism().unwrap().get(),
        data_root: root.path(),
        effort: Effort {
            samples: 2,
            span: Duration::from_millis(1),
            memory_bytes: 1 << 20,
        },
    };
    let measured = measure(&setup, &Progress::spinner(), &Stop::default()).unwrap();
    let keys: Vec<&str> = measured.numbers.iter().map(|number| number.key.as_str()).collect();
    assert_eq!(keys, KEYS, "{:?}", measured.absent);
    for number in &measured.numbers {
        assert!(number.seconds > 0.0 && number.seconds < 1.0, "{number:?}");
        assert!(
            number.low_s <= number.seconds && number.seconds <= number.high_s,
            "{number:?}"
        );
        assert!((number.per_second * number.seconds - 1.0).abs() < 1e-9, "{number:?}");
        assert_eq!(number.samples, 2, "{number:?}");
    }
    assert_eq!(root.path().read_dir().unwrap().count(), 0, "data was left behind");
}

#[test]
fn a_file_that_cannot_be_written_is_said_before_anything_is_measured() {
    let output = Command::new(env!("CARGO_BIN_EXE_lab"))
        .args(["numbers", "--json", "/no/such/folder/numbers.json"])
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.starts_with("lab: cannot write /no/such/folder/numbers.json"),
        "{stderr}"
    );
    assert!(output.stdout.is_empty());
}
