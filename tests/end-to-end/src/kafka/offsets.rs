//! FindCoordinator 0, OffsetCommit 2 and OffsetFetch 2, for groups without members.

use super::{
    connection::{Api, Connection},
    wire::{Reader, Writer},
};
use anyhow::{Context, Result, ensure};

const FIND_COORDINATOR: Api = Api { key: 10, version: 0 };
const OFFSET_COMMIT: Api = Api { key: 8, version: 2 };
const OFFSET_FETCH: Api = Api { key: 9, version: 2 };

impl Connection {
    /// Commits the first offset of a cluster's first group: the topic of the groups comes with the search for a coordinator.
    pub async fn commit_first_offset(&mut self, group: &str, topic: &str, offset: i64) -> Result<()> {
        let found = self.call(FIND_COORDINATOR, &Writer::default().string(group).finish()).await?.i16()?;
        ensure!(found == 0, "FindCoordinator: error {found}");
        let committed = self.commit_offset(group, topic, offset).await?;
        ensure!(committed == 0, "OffsetCommit: error {committed}");
        Ok(())
    }

    /// Commits `offset` for partition 0 of `topic`; the error code.
    pub async fn commit_offset(&mut self, group: &str, topic: &str, offset: i64) -> Result<i16> {
        commit_error(self.call(OFFSET_COMMIT, &commit(group, topic, offset)).await?)
    }

    /// What `group` committed for partition 0 of `topic` (-1: nothing), or an error code.
    pub async fn committed_offset(&mut self, group: &str, topic: &str) -> Result<Result<i64, i16>> {
        let body = Writer::default().string(group).i32(1).string(topic).i32(1).i32(0).finish();
        let mut answer = self.call(OFFSET_FETCH, &body).await?;
        let topics = answer.array(|from| {
            from.string()?;
            from.array(|from| {
                let (_partition, offset, _metadata) = (from.i32()?, from.i64()?, from.string()?);
                Ok((offset, from.i16()?))
            })
        })?;
        let of_group = answer.i16()?;
        if of_group != 0 {
            return Ok(Err(of_group));
        }
        let partition = topics.into_iter().flatten().next();
        let (offset, error) = partition.context("OffsetFetch says nothing of the partition")?;
        Ok(if error == 0 { Ok(offset) } else { Err(error) })
    }
}

fn commit(group: &str, topic: &str, offset: i64) -> Vec<u8> {
    let (no_generation, no_member, default_retention) = (-1, "", -1);
    let head = Writer::default().string(group).i32(no_generation).string(no_member).i64(default_retention);
    head.i32(1).string(topic).i32(1).i32(0).i64(offset).null_string().finish()
}

fn commit_error(mut answer: Reader) -> Result<i16> {
    let topics = answer.array(|from| {
        from.string()?;
        from.array(|from| {
            from.i32()?;
            from.i16()
        })
    })?;
    topics.into_iter().flatten().next().context("OffsetCommit says nothing of the partition")
}
