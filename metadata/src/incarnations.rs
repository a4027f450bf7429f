//! The lives of brokers: registration, commits, take-over, ownership of the logs. See §5 of the design.
//!
//! An incarnation's record is the guard of everything that is written in its name. It goes through
//! `open n → open n+1 → … → fencing(ballot) → fencing(higher ballot) → … → recovered`, or from open to recovered by its own
//! last commit, and never stands twice at the same value. Every transaction compares the *whole* record. So
//! - a commit fails once somebody has raised the record, however late it arrives;
//! - of two attempts of the same step at most one is applied;
//! - a record that stands at what a step writes proves that the step was applied, since only the incarnation itself makes
//!   its steps, and every write of a step is applied with its record or not at all.

use crate::{
    call::{Call, Outcome},
    keys, *,
};
use bytes::Bytes;
use thalweg_segment::{BrokerEpoch, BrokerId, Incarnation, LeaderEpoch, WalSequence};

/// What a flush adds to the object index, or a *rewrite* replaces in it: a commit that removes something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    /// The shared segment or manifest, if there is one.
    pub shared: Option<SharedRecord>,
    /// Log segments. One that begins where a removed one of the same log does takes its place.
    pub logs: Vec<LogSegmentRecord>,
    /// What the index no longer has. Each row must stand as given, or nothing of the commit is done. The objects themselves
    /// are left to be deleted once nobody reads them.
    pub removed: Vec<ObjectRecord>,
    /// The new trim point. It never moves down: a lower one than the record's leaves the record's.
    pub trim: WalSequence,
    /// Whether this is the incarnation's last commit: everything is flushed, it writes no more.
    pub close: bool,
}

impl Commit {
    /// What it adds.
    pub fn added(&self) -> impl Iterator<Item = ObjectRecord> + '_ {
        let shared = self.shared.iter().copied().map(ObjectRecord::Shared);
        shared.chain(self.logs.iter().copied().map(ObjectRecord::Log))
    }

    /// Whether it fits into one transaction, as a rewrite must: readers of the rows would else see a part of it.
    pub fn fits(&self) -> bool {
        self.added().count() + 2 * self.removed.len() <= STEP_ROWS
    }
}

/// One transaction of a commit: what it adds and removes, and the record that it leaves.
struct Step {
    rows: Vec<(Bytes, Bytes)>,
    removed: Vec<(Bytes, Bytes)>,
    leaves: IncarnationRecord,
}

/// Operations of a step on rows; the other two are the compare and the write of the record. A row has about 100 bytes, so a
/// full step stays far below the limit in bytes.
const STEP_ROWS: usize = MAX_OPERATIONS - 2;

impl Metadata {
    /// Begins a new life of `broker`: draws the next broker epoch and writes its record, state open.
    ///
    /// After an unknown outcome another epoch is drawn. The record that the lost attempt may have left is an incarnation
    /// that never wrote; somebody recovers it as any other.
    pub async fn register(&self, broker: BrokerId, window: u32) -> Result<IncarnationRecord, MetadataError> {
        let mut call = self.call();
        loop {
            let counter = call.counter(keys::EPOCHS).await?;
            let transaction = counter.draw(Transaction::default(), 1)?;
            let record = IncarnationRecord {
                incarnation: Incarnation { broker, epoch: BrokerEpoch(counter.value + 1) },
                window,
                commit: 0,
                trim: WalSequence(0),
                state: IncarnationState::Open,
            };
            let key = keys::incarnation(record.incarnation);
            let transaction = transaction.compare(key.clone(), None).put(key, record.encode());
            if call.transact(transaction).await? == Outcome::Applied {
                return Ok(record);
            }
        }
    }

    /// All incarnations that there ever were.
    pub async fn incarnations(&self) -> Result<Vec<IncarnationRecord>, MetadataError> {
        let rows = self.call().scan(keys::INCARNATION).await?;
        rows.iter()
            .map(|(key, value)| Ok(IncarnationRecord::decode(keys::parse_incarnation(key)?, value)?))
            .collect()
    }

    /// Those whose WAL may still hold something: open or fencing.
    pub async fn unrecovered(&self) -> Result<Vec<IncarnationRecord>, MetadataError> {
        let records = self.incarnations().await?;
        Ok(records.into_iter().filter(|record| record.state != IncarnationState::Recovered).collect())
    }

    /// One incarnation's record.
    pub async fn incarnation(
        &self,
        incarnation: Incarnation,
    ) -> Result<Option<IncarnationRecord>, MetadataError> {
        self.call().incarnation(incarnation).await
    }

    /// Raises a record to `fencing(ballot)`, from open or a lower ballot. From here on its commits fail.
    /// Returns the record as it then stands (W and trim point are read with the raise), or `Conflict` where a higher
    /// ballot stands or it is recovered already. A ballot is its recoverer's alone, so one that stands already is returned.
    pub async fn raise(
        &self,
        incarnation: Incarnation,
        ballot: BrokerEpoch,
    ) -> Result<IncarnationRecord, MetadataError> {
        let mut call = self.call();
        loop {
            let found = call.incarnation(incarnation).await?;
            let found = found.ok_or_else(|| conflict(incarnation))?;
            match found.state {
                IncarnationState::Fencing { ballot: standing } if standing == ballot => return Ok(found),
                IncarnationState::Fencing { ballot: standing } if standing > ballot => {
                    return Err(conflict(incarnation));
                }
                IncarnationState::Recovered => return Err(conflict(incarnation)),
                IncarnationState::Open | IncarnationState::Fencing { .. } => {}
            }
            let raised = IncarnationRecord { state: IncarnationState::Fencing { ballot }, ..found.clone() };
            if call.transact(found.replaced_by(&raised)).await? == Outcome::Applied {
                return Ok(raised);
            }
        }
    }

    /// Ends a take-over: compares the record with `fencing` (as [`Metadata::raise`] returned it), writes the manifest (none
    /// where nothing was kept) into the object index and the state recovered.
    ///
    /// `Conflict` where somebody else has taken the recovery over. Repeating it with the same arguments is safe: a record
    /// that is recovered already counts as ours when the index holds our manifest, or, without one, no manifest of this
    /// incarnation at all, which is all that our adoption would have done.
    pub async fn adopt(
        &self,
        fencing: &IncarnationRecord,
        manifest: Option<SharedRecord>,
    ) -> Result<(), MetadataError> {
        let recovered = IncarnationRecord { state: IncarnationState::Recovered, ..fencing.clone() };
        let mut transaction = fencing.replaced_by(&recovered);
        if let Some(manifest) = manifest {
            transaction = transaction.put(keys::shared(manifest.id), manifest.encode());
        }
        let mut call = self.call();
        while call.transact(transaction.clone()).await? != Outcome::Applied {
            let found = call.incarnation(fencing.incarnation).await?;
            if found.as_ref() == Some(&recovered) && call.is_adopted(fencing.incarnation, manifest).await? {
                return Ok(());
            }
            if found.as_ref() != Some(fencing) {
                return Err(conflict(fencing.incarnation));
            }
        }
        Ok(())
    }

    /// The next commit of an incarnation. Compares its whole record with `held` and returns the next one. A commit too
    /// large for one transaction is split: segments first, the trim point (and close) in the last.
    ///
    /// After `Store(Unavailable)` nothing is known, and the commit has to be repeated with the same `held` and the same
    /// `commit`, which goes on where the store stands. A different one in its place is refused with `Conflict` if the
    /// first was applied.
    ///
    /// `Stale` where a row that is to be removed does not stand as given: nothing was done, and the record stays `held`.
    /// Panics where a rewrite does not [fit](Commit::fits) into one transaction.
    pub async fn commit(
        &self,
        held: &IncarnationRecord,
        commit: Commit,
    ) -> Result<IncarnationRecord, MetadataError> {
        if held.state != IncarnationState::Open {
            return Err(fenced(held.incarnation, Some(held.clone())));
        }
        let steps = steps(held, commit);
        let mut call = self.call();
        let (mut stands, mut done) = (held, 0);
        while let Some(step) = steps.get(done) {
            match call.transact(step.transaction(stands)).await? {
                Outcome::Applied => done += 1,
                Outcome::Refused | Outcome::Unknown => match call.steps_done(stands, &steps[done..]).await? {
                    0 => call.check_removable(step).await?,
                    steps => done += steps,
                },
            }
            stands = done.checked_sub(1).map_or(held, |last| &steps[last].leaves);
        }
        Ok(stands.clone())
    }

    /// Makes `record`'s incarnation the owner of all logs, with a new leader epoch. Its record must be as given, and open,
    /// else `Fenced`; and the owner before must be recovered, else `Conflict`: until then it may still acknowledge.
    /// An incarnation becomes owner once; where it is that already, what stands is returned.
    pub async fn take_ownership(&self, record: &IncarnationRecord) -> Result<OwnerRecord, MetadataError> {
        let key = Bytes::from_static(keys::OWNER);
        let mut call = self.call();
        loop {
            let counter = call.counter(keys::EPOCHS).await?;
            let stored = call.get(&key).await?;
            let before = stored.as_deref().map(OwnerRecord::decode).transpose()?;
            call.check_open(record).await?;
            match before {
                Some(owner) if owner.incarnation == record.incarnation => return Ok(owner),
                Some(owner) => call.check_recovered(owner.incarnation).await?,
                None => {}
            }
            let epoch = counter.value.checked_add(1).and_then(|epoch| i32::try_from(epoch).ok());
            let leader_epoch = LeaderEpoch(epoch.ok_or_else(|| counter.exhausted())?);
            let owner = OwnerRecord { incarnation: record.incarnation, leader_epoch };
            let transaction = Transaction::default()
                .compare(keys::incarnation(record.incarnation), Some(record.encode()))
                .compare(key.clone(), stored)
                .put(key.clone(), owner.encode());
            if call.transact(counter.draw(transaction, 1)?).await? == Outcome::Applied {
                return Ok(owner);
            }
        }
    }

    /// Fails with `Fenced` unless `record`'s incarnation is open and its record as given: also where only a write shows it.
    ///
    /// Who fails while it starts asks this: a successor that it doesn't know of deletes what it still reads.
    pub async fn confirm(&self, record: &IncarnationRecord) -> Result<(), MetadataError> {
        let mut call = self.call();
        loop {
            call.check_open(record).await?;
            if call.transact(record.replaced_by(record)).await? == Outcome::Applied {
                return Ok(());
            }
        }
    }

    /// Who owns the logs.
    pub async fn owner(&self) -> Result<Option<OwnerRecord>, MetadataError> {
        let stored = self.call().get(keys::OWNER).await?;
        Ok(stored.as_deref().map(OwnerRecord::decode).transpose()?)
    }
}

impl Call<'_> {
    /// One incarnation's record.
    pub async fn incarnation(
        &mut self,
        incarnation: Incarnation,
    ) -> Result<Option<IncarnationRecord>, MetadataError> {
        let stored = self.get(&keys::incarnation(incarnation)).await?;
        Ok(stored.map(|value| IncarnationRecord::decode(incarnation, &value)).transpose()?)
    }

    /// The record of an incarnation that must be open.
    pub async fn open_incarnation(
        &mut self,
        incarnation: Incarnation,
    ) -> Result<IncarnationRecord, MetadataError> {
        match self.incarnation(incarnation).await? {
            Some(record) if record.state == IncarnationState::Open => Ok(record),
            found => Err(fenced(incarnation, found)),
        }
    }

    async fn check_open(&mut self, record: &IncarnationRecord) -> Result<(), MetadataError> {
        let found = self.open_incarnation(record.incarnation).await?;
        if found == *record { Ok(()) } else { Err(fenced(record.incarnation, Some(found))) }
    }

    /// A recovered record stays so, which is why nobody has to compare it.
    async fn check_recovered(&mut self, incarnation: Incarnation) -> Result<(), MetadataError> {
        match self.incarnation(incarnation).await? {
            Some(record) if record.state == IncarnationState::Recovered => Ok(()),
            _ => Err(MetadataError::conflict(format_args!("owner {incarnation} is not recovered; it"))),
        }
    }

    /// Whether the index holds exactly what a recovery of `incarnation` with this manifest writes.
    async fn is_adopted(
        &mut self,
        incarnation: Incarnation,
        manifest: Option<SharedRecord>,
    ) -> Result<bool, MetadataError> {
        if let Some(manifest) = manifest {
            return Ok(self.get(&keys::shared(manifest.id)).await? == Some(manifest.encode()));
        }
        for (key, value) in self.scan(keys::SHARED).await? {
            let record = SharedRecord::decode(keys::parse_shared(&key)?, &value)?;
            // Its own manifests are those of its flushes.
            if record.adopts == Some(incarnation) && record.id.incarnation != incarnation {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether the rows that `step` removes stand as given. Where one doesn't, the step can't be applied any more, however
    /// late: ids of objects are not used again, so no row comes back.
    async fn check_removable(&mut self, step: &Step) -> Result<(), MetadataError> {
        for (key, value) in &step.removed {
            if self.get(key).await?.as_ref() != Some(value) {
                return Err(MetadataError::Stale { row: key.escape_ascii().to_string() });
            }
        }
        Ok(())
    }

    /// How many of `steps` the store shows as applied to `stands`.
    async fn steps_done(
        &mut self,
        stands: &IncarnationRecord,
        steps: &[Step],
    ) -> Result<usize, MetadataError> {
        let found = self.incarnation(stands.incarnation).await?;
        if found.as_ref() == Some(stands) {
            return Ok(0);
        }
        let last = steps.iter().position(|step| Some(&step.leaves) == found.as_ref());
        let Some(last) = last else { return Err(fenced(stands.incarnation, found)) };
        for (key, wanted) in steps[..=last].iter().flat_map(Step::result) {
            if self.get(key).await?.as_ref() != wanted {
                // The commit with this number was another one, or what it added was replaced since.
                return Err(conflict(stands.incarnation));
            }
        }
        Ok(last + 1)
    }
}

/// Splits a commit into transactions. Every prefix of them is correct: what is added is added before the WAL is trimmed.
fn steps(held: &IncarnationRecord, commit: Commit) -> Vec<Step> {
    assert!(commit.removed.is_empty() || commit.fits(), "a rewrite is one transaction");
    let rows: Vec<_> = commit.added().map(|record| record.row()).collect();
    let chunks: Vec<_> = rows.chunks(STEP_ROWS).map(<[_]>::to_vec).collect();
    let chunks = if chunks.is_empty() { vec![Vec::new()] } else { chunks };
    let number = |at: usize| held.commit + 1 + at as u64;
    let leaves = |at| IncarnationRecord { commit: number(at), ..held.clone() };
    let step = |(at, rows)| Step { rows, removed: Vec::new(), leaves: leaves(at) };
    let mut steps: Vec<Step> = chunks.into_iter().enumerate().map(step).collect();
    let last = steps.last_mut().expect("a commit has at least one step");
    last.removed = commit.removed.iter().map(ObjectRecord::row).collect();
    let last = &mut last.leaves;
    last.trim = held.trim.max(commit.trim);
    if commit.close {
        last.state = IncarnationState::Recovered;
    }
    steps
}

impl Step {
    fn transaction(&self, stands: &IncarnationRecord) -> Transaction {
        let record = stands.replaced_by(&self.leaves);
        let compared = self.removed.iter().cloned();
        let guarded =
            compared.fold(record, |transaction, (key, value)| transaction.compare(key, Some(value)));
        self.result().fold(guarded, |transaction, (key, value)| match value {
            Some(value) => transaction.put(key.clone(), value.clone()),
            None => transaction.delete(key.clone()),
        })
    }

    /// What stands at its keys once it is applied. A key has one writer: what takes a removed row's place is put there.
    fn result(&self) -> impl Iterator<Item = (&Bytes, Option<&Bytes>)> {
        let is_added = |key: &Bytes| self.rows.iter().any(|(added, _)| added == key);
        let gone = self.removed.iter().map(|(key, _)| key).filter(move |key| !is_added(key));
        self.rows.iter().map(|(key, value)| (key, Some(value))).chain(gone.map(|key| (key, None)))
    }
}

impl IncarnationRecord {
    /// The transaction that replaces exactly this record by `next`.
    fn replaced_by(&self, next: &Self) -> Transaction {
        let key = keys::incarnation(self.incarnation);
        Transaction::default().compare(key.clone(), Some(self.encode())).put(key, next.encode())
    }
}

fn conflict(incarnation: Incarnation) -> MetadataError {
    MetadataError::conflict(format_args!("incarnation {incarnation}"))
}

fn fenced(incarnation: Incarnation, found: Option<IncarnationRecord>) -> MetadataError {
    MetadataError::Fenced { incarnation, found }
}
