//! Lists held against a model, at their bounds, on disks that fail, and after each way to end.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use proptest::prelude::*;
use tempfile::TempDir;

use super::disk::faults;
use super::*;

const A: PeerId = PeerId(0);
const B: PeerId = PeerId(1);
const ENOSPC: i32 = 28;
const EIO: i32 = 5;
const EMPTY: ListState = ListState { keys: 0, bytes: 0, complete: true, whole: false };
const END_MS: u64 = 7;

fn config(dir: &Path) -> SpillConfig {
    SpillConfig {
        dir: dir.to_owned(),
        bytes_max: 64 << 20,
        waiting_bytes_max: 4 << 20,
        site: "here".to_owned(),
        peers: vec!["10.0.0.2:11212".to_owned(), "[::1]:11212".to_owned()],
    }
}

fn open(dir: &Path) -> Arc<Spill> {
    Spill::open(&config(dir)).expect("the folder can be used")
}

fn key(number: usize) -> Arc<[u8]> {
    format!("key:{number}").into_bytes().into()
}

/// Waits for an answer of the writer; no runtime is needed for that.
fn wait<T>(answer: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(answer)
}

fn keys(spill: &Spill, peer: PeerId) -> BTreeSet<Vec<u8>> {
    wait(spill.take(peer, usize::MAX)).into_iter().map(|listed| listed.key.to_vec()).collect()
}

#[derive(Clone, Debug)]
enum Step {
    Push(usize, usize),
    /// Take so many, and keep them in mind.
    Take(usize, usize),
    /// The peer has confirmed what was taken.
    Confirm(usize),
    Anew(usize),
    Stop,
    Kill,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..2_usize, 0..12_usize).prop_map(|(peer, key)| Step::Push(peer, key)),
        4 => (0..2_usize, 0..6_usize).prop_map(|(peer, most)| Step::Take(peer, most)),
        4 => (0..2_usize).prop_map(Step::Confirm),
        1 => (0..2_usize).prop_map(Step::Anew),
        1 => Just(Step::Stop),
        1 => Just(Step::Kill),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// What is listed is what was pushed, less what was confirmed and not pushed again since it was taken. What was taken
    /// is known to the process that took it and goes with it: an emptied list counts its generations from the start again.
    #[test]
    fn a_list_is_what_its_model_is(steps in prop::collection::vec(step(), 1..60)) {
        let dir = TempDir::new().expect("a folder");
        let mut spill = open(dir.path());
        let mut model = [BTreeSet::new(), BTreeSet::new()];
        let mut taken = [Vec::<Listed>::new(), Vec::new()];
        let mut again = [BTreeSet::new(), BTreeSet::new()];
        for step in steps {
            match step {
                Step::Push(peer, number) => {
                    spill.push(PeerId(peer), key(number));
                    model[peer].insert(key(number).to_vec());
                    again[peer].insert(key(number).to_vec());
                }
                Step::Take(peer, most) => {
                    taken[peer] = wait(spill.take(PeerId(peer), most));
                    prop_assert_eq!(taken[peer].len(), most.min(model[peer].len()));
                    again[peer].clear();
                }
                Step::Confirm(peer) => {
                    for listed in &taken[peer] {
                        if !again[peer].contains(&*listed.key) {
                            model[peer].remove(&*listed.key);
                        }
                    }
                    wait(spill.remove(PeerId(peer), std::mem::take(&mut taken[peer])));
                }
                Step::Anew(peer) => {
                    spill.begin_anew(PeerId(peer));
                    model[peer].clear();
                }
                Step::Stop => {
                    spill.close(END_MS);
                    spill = open(dir.path());
                    taken = Default::default();
                    prop_assert_eq!(spill.stopped_ms(), Some(END_MS));
                }
                Step::Kill => {
                    // So that it is committed; what is not is lost with the process.
                    let _ = wait(spill.take(A, 0));
                    drop(spill);
                    spill = open(dir.path());
                    taken = Default::default();
                    prop_assert_eq!(spill.stopped_ms(), None);
                }
            }
        }
        for peer in [A, B] {
            prop_assert_eq!(&keys(&spill, peer), &model[peer.0]);
            let state = spill.state(peer);
            prop_assert_eq!(state.keys, model[peer.0].len() as u64);
            prop_assert!(state.complete);
        }
    }
}

#[test]
fn a_list_is_whole_if_the_last_run_ended_in_order_and_said_so() {
    let dir = TempDir::new().expect("a folder");
    let spill = open(dir.path());
    assert_eq!(spill.state(A), EMPTY, "nobody knows of an earlier run");
    (0..10_000).for_each(|number| spill.push(A, key(number)));
    spill.doubt(B);
    spill.close(END_MS);
    drop(spill);
    let spill = open(dir.path());
    let state = spill.state(A);
    assert!(state.keys == 10_000 && state.whole && state.bytes > 0, "{state:?}");
    assert!(!spill.state(B).whole);
    drop(spill);
    let spill = open(dir.path());
    let state = spill.state(A);
    assert!(state.keys == 10_000 && state.complete && !state.whole, "killed: {state:?}");
    spill.begin_anew(A);
    assert_eq!(spill.state(A), EMPTY);
    assert_eq!(keys(&spill, A).len(), 0);
    assert_eq!(list_files(dir.path()), 0, "what does not matter takes no room");
}

#[test]
fn an_emptied_list_takes_no_room() {
    let dir = TempDir::new().expect("a folder");
    let spill = open(dir.path());
    (0..100).for_each(|number| spill.push(A, key(number)));
    let taken = wait(spill.take(A, 100));
    assert_eq!((taken.len(), list_files(dir.path())), (100, 1));
    wait(spill.remove(A, taken));
    assert_eq!((spill.state(A), list_files(dir.path())), (EMPTY, 0));
}

#[test]
fn a_buffer_that_runs_over_costs_the_list_and_nothing_else() {
    let dir = TempDir::new().expect("a folder");
    let spill = Spill::open(&SpillConfig { waiting_bytes_max: 10_000, ..config(dir.path()) });
    let spill = spill.expect("the folder can be used");
    spill.push(B, key(0));
    // Longer than the bound allows, however fast the disk is.
    spill.push(A, vec![b'k'; 10_000].into());
    assert_eq!(spill.losses()[Reason::BufferFull as usize], 1);
    (0..1_000).for_each(|number| spill.push(A, key(number)));
    let state = spill.state(A);
    assert_eq!((state.keys, state.complete, state.whole), (0, false, false));
    assert_eq!(spill.losses()[Reason::BufferFull as usize], 1, "an incomplete list takes no more");
    assert_eq!(keys(&spill, B).len(), 1);
    assert!(spill.state(B).complete);
    spill.begin_anew(A);
    spill.push(A, key(1));
    assert_eq!(keys(&spill, A).len(), 1);
    assert_eq!(spill.inner.lock().waiting.bytes(), 0, "what is written waits no more");
}

#[test]
fn the_largest_list_goes_at_the_bound() {
    let dir = TempDir::new().expect("a folder");
    let spill = Spill::open(&SpillConfig { bytes_max: 1 << 20, ..config(dir.path()) });
    let spill = spill.expect("the folder can be used");
    (0..100).for_each(|number| spill.push(B, key(number)));
    for number in 0..40_000 {
        spill.push(A, key(number));
        if number % 1_000 == 0 {
            wait(spill.take(A, 0));
        }
    }
    wait(spill.take(A, 0));
    assert_eq!(spill.losses()[Reason::Bound as usize], 1);
    let (a, b) = (spill.state(A), spill.state(B));
    assert!(!a.complete && a.keys == 0, "{a:?}");
    assert!(b.complete && b.keys == 100, "{b:?}");
    wait(spill.take(A, 0));
    assert_eq!(list_files(dir.path()), 1);
}

#[test]
fn a_disk_that_refuses_is_counted_and_used_again_when_it_is_mended() {
    for (errno, reason) in [(ENOSPC, Reason::DiskFull), (EIO, Reason::Io)] {
        let dir = TempDir::new().expect("a folder");
        let spill = open(dir.path());
        (0..100).for_each(|number| spill.push(A, key(number)));
        assert_eq!(keys(&spill, A).len(), 100);
        faults::set(dir.path(), errno);
        spill.push(A, key(100));
        assert_eq!(keys(&spill, A).len(), 0);
        assert!(!spill.state(A).complete && spill.losses()[reason as usize] == 1, "{:?}", spill.losses());
        // A list that cannot even be begun.
        spill.push(B, key(0));
        assert_eq!(keys(&spill, B).len(), 0);
        assert!(!spill.state(B).complete);
        faults::set(dir.path(), 0);
        for peer in [A, B] {
            spill.begin_anew(peer);
            spill.push(peer, key(1));
            assert_eq!(keys(&spill, peer).len(), 1, "{reason:?}");
            assert!(spill.state(peer).complete);
        }
        spill.close(END_MS);
        assert!(open(dir.path()).state(A).whole);
    }
}

#[test]
fn a_disk_that_fails_at_the_end_leaves_a_list_that_is_not_whole() {
    let dir = TempDir::new().expect("a folder");
    let spill = open(dir.path());
    (0..100).for_each(|number| spill.push(A, key(number)));
    assert_eq!(keys(&spill, A).len(), 100);
    faults::set(dir.path(), EIO);
    (100..200).for_each(|number| spill.push(A, key(number)));
    spill.close(END_MS);
    faults::set(dir.path(), 0);
    let spill = open(dir.path());
    assert!(!spill.state(A).whole && spill.state(B).whole, "{:?}", spill.state(A));
}

#[test]
fn a_damaged_list_is_put_aside() {
    for damage in [&b"this was never a list of keys"[..], &[0; 8192]] {
        let dir = TempDir::new().expect("a folder");
        let spill = open(dir.path());
        (0..100).for_each(|number| spill.push(A, key(number)));
        spill.close(END_MS);
        drop(spill);
        let folder = fs::read_dir(dir.path()).expect("a folder").map(|entry| entry.expect("an entry").path());
        let list = folder.filter(|path| path.extension().is_some_and(|end| end == "keys"));
        list.for_each(|path| fs::write(path, damage).expect("a file"));
        let spill = open(dir.path());
        assert!(!spill.state(A).complete && spill.state(B).complete);
        assert_eq!(spill.losses()[Reason::Corrupt as usize] + spill.losses()[Reason::Fault as usize], 1);
        assert_eq!((keys(&spill, A).len(), list_files(dir.path())), (0, 0));
        let names = fs::read_dir(dir.path()).expect("a folder").map(|entry| entry.expect("an entry").path());
        assert_eq!(names.filter(|path| path.extension().is_some_and(|end| end == "damaged")).count(), 1);
    }
}

/// A copy of the folder in the middle of a run is what a killed process leaves behind.
#[test]
fn what_was_committed_survives_a_kill() {
    let (dir, copy) = (TempDir::new().expect("a folder"), TempDir::new().expect("a folder"));
    let spill = open(dir.path());
    (0..5_000).for_each(|number| spill.push(A, key(number)));
    while spill.inner.lock().waiting.bytes() > 0 {
        wait(spill.take(A, 0));
    }
    for entry in fs::read_dir(dir.path()).expect("a folder") {
        let path = entry.expect("an entry").path();
        fs::copy(&path, copy.path().join(path.file_name().expect("a name"))).expect("a copy");
    }
    let killed = open(copy.path());
    let state = killed.state(A);
    assert!(state.keys == 5_000 && state.complete && !state.whole, "{state:?}");
    assert_eq!(killed.stopped_ms(), None);
    // Generations go on where they were: what is pushed now is newer than what was found.
    let taken = wait(killed.take(A, 1));
    killed.push(A, Arc::clone(&taken[0].key));
    wait(killed.remove(A, taken));
    assert_eq!(keys(&killed, A).len(), 5_000);
}

#[test]
fn a_folder_has_one_owner_at_a_time() {
    let dir = TempDir::new().expect("a folder");
    let spill = open(dir.path());
    let second = Spill::open(&config(dir.path())).expect_err("it is in use");
    assert!(second.to_string().ends_with("is in use by another proxy; give each proxy a folder of its own"));
    drop(spill);
    let other = Spill::open(&SpillConfig { site: "there".to_owned(), ..config(dir.path()) });
    assert!(other.expect_err("another site's").to_string().contains("is that of site `here`"));
    let file = dir.path().join("lock");
    let unusable = Spill::open(&config(&file)).expect_err("no folder").to_string();
    assert!(unusable.ends_with("name a folder that this process may write to"), "{unusable}");
}

#[test]
fn lists_of_peers_that_are_named_no_more_are_deleted() {
    let dir = TempDir::new().expect("a folder");
    let spill = open(dir.path());
    (0..10).for_each(|number| spill.push(A, key(number)));
    spill.push(B, key(0));
    spill.close(END_MS);
    drop(spill);
    let mut fewer = config(dir.path());
    fewer.peers.remove(0);
    let spill = Spill::open(&fewer).expect("the folder can be used");
    assert_eq!((spill.state(A).keys, list_files(dir.path())), (1, 1));
    spill.close(END_MS);
    drop(spill);
    // Named again: what it was owed meanwhile is not known.
    let spill = open(dir.path());
    assert!(!spill.state(A).whole && spill.state(B).whole);
}

fn list_files(dir: &Path) -> usize {
    let names = fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("an entry").path());
    names.filter(|path| path.extension().is_some_and(|end| end == "keys")).count()
}

#[test]
fn lists_come_and_go_with_their_peers() {
    let dir = TempDir::new().expect("a folder");
    let spill = open(dir.path());
    let late = PeerId(2);
    spill.join(late, "10.0.0.9:1");
    spill.push(late, key(1));
    assert_eq!(keys(&spill, late), BTreeSet::from([key(1).to_vec()]));
    let files = || {
        fs::read_dir(dir.path()).unwrap().flatten().filter(|e| e.path().extension() == Some("keys".as_ref()))
    };
    assert_eq!(files().count(), 1);
    spill.push(A, key(2));
    spill.part(late);
    assert_eq!(keys(&spill, late), BTreeSet::new());
    assert_eq!(files().count(), 1, "that of the one that stays");
    // Another one in its place, and the same one again in another: neither inherits anything.
    spill.join(late, "10.0.0.10:1");
    spill.join(PeerId(3), "10.0.0.9:1");
    spill.push(late, key(3));
    assert_eq!((keys(&spill, late).len(), keys(&spill, PeerId(3)).len()), (1, 0));
    assert!(spill.state(late).complete && !spill.state(late).whole);
    // A list that was lost is complete again for the next one.
    spill.inner.lock().waiting.lose(2, Reason::Bound);
    assert!(!spill.state(late).complete);
    spill.part(late);
    spill.join(late, "10.0.0.11:1");
    assert!(spill.state(late).complete);
    spill.close(END_MS);
    drop(spill);
    let spill = open(dir.path());
    assert_eq!(keys(&spill, A), BTreeSet::from([key(2).to_vec()]));
}
