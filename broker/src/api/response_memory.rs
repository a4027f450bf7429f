//! Charges responses for as long as their clients take to read them.
//!
//! A small one is part of what a connection costs: it has one at a time. So heartbeats and their like never wait for memory that slow
//! readers hold. A large one is charged by its encoded size. Of the APIs whose responses are much larger than their requests, as
//! much as they have taken lately is charged before the response is made: else every connection could hold one that waits.

use std::sync::atomic::{AtomicUsize, Ordering};
use thalweg_protocol::ApiKey;
use thalweg_runtime::{Budget, Charge};

/// Every connection may hold this much of a response uncharged.
const UNCHARGED: usize = 4 * 1024;
/// Of what an API's responses usually take, the part that is given up with each smaller one.
const DECAY: usize = 8;

/// See the module.
pub struct ResponseMemory {
    budget: Budget,
    /// What responses have taken lately, of the APIs of [`EXPANDING`].
    usual: [AtomicUsize; EXPANDING.len()],
}

/// APIs that answer a small request at length, and at once: what is charged before is held while the response is made.
const EXPANDING: [ApiKey; 16] = [
    ApiKey::Metadata,
    ApiKey::DescribeTopicPartitions,
    ApiKey::DescribeConfigs,
    ApiKey::OffsetFetch,
    ApiKey::DescribeGroups,
    ApiKey::ListGroups,
    ApiKey::DescribeProducers,
    ApiKey::DescribeTransactions,
    ApiKey::ListTransactions,
    ApiKey::ListConfigResources,
    ApiKey::DescribeLogDirs,
    ApiKey::ElectLeaders,
    ApiKey::DescribeClientQuotas,
    ApiKey::DescribeUserScramCredentials,
    ApiKey::CreateAcls,
    ApiKey::DeleteAcls,
];

impl ResponseMemory {
    /// Charges to `budget`.
    pub fn new(budget: Budget) -> Self {
        Self { budget, usual: Default::default() }
    }

    /// Waits for as much room as the next response of `api` is likely to need, before it is made.
    pub async fn expect(&self, api: ApiKey) -> Option<Charge> {
        let usual = self.usual(api)?.load(Ordering::Relaxed);
        if usual > UNCHARGED { Some(self.budget.charge(usual).await) } else { None }
    }

    /// Charges a response of `bytes`, in exchange for what was `expected`. `held` is charged for what it keeps alive: records that
    /// were fetched.
    pub async fn settle(
        &self,
        api: ApiKey,
        expected: Option<Charge>,
        bytes: usize,
        held: &[Charge],
    ) -> Option<Charge> {
        self.learn(api, bytes);
        let charged = held.iter().filter(|charge| charge.is_of(&self.budget)).map(Charge::bytes).sum();
        let bytes = bytes.saturating_sub(charged);
        if bytes <= UNCHARGED {
            return None;
        }
        if charged > 0 {
            // Who waited for more while it holds some could wait for ever. What a Fetch says beside its records is bounded by
            // its request.
            return self.budget.try_charge(bytes);
        }
        match expected {
            Some(mut expected) if expected.bytes() >= bytes.min(self.budget.capacity()) => {
                expected.shrink_to(bytes);
                Some(expected)
            }
            expected => {
                drop(expected);
                Some(self.budget.charge(bytes).await)
            }
        }
    }

    fn usual(&self, api: ApiKey) -> Option<&AtomicUsize> {
        EXPANDING.iter().position(|known| *known == api).map(|at| &self.usual[at])
    }

    /// Rises at once, falls slowly.
    fn learn(&self, api: ApiKey, bytes: usize) {
        let Some(usual) = self.usual(api) else { return };
        let before = usual.load(Ordering::Relaxed);
        usual.store(bytes.max(before - before / DECAY), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_response_is_expected_to_take_what_its_like_took_lately() {
        let budget = Budget::new("responses", 1 << 20);
        let memory = ResponseMemory::new(budget.clone());
        assert!(memory.expect(ApiKey::Metadata).await.is_none(), "nothing is known yet");
        let first = memory.settle(ApiKey::Metadata, None, 100_000, &[]).await;
        assert_eq!(budget.used(), 100_000);
        let expected = memory.expect(ApiKey::Metadata).await;
        assert_eq!(budget.used(), 200_000);
        let second = memory.settle(ApiKey::Metadata, expected, 50_000, &[]).await;
        assert_eq!(budget.used(), 150_000);
        let expected = memory.expect(ApiKey::Metadata).await.expect("it falls slowly");
        assert_eq!(expected.bytes(), 87_500);
        assert!(memory.settle(ApiKey::Metadata, Some(expected), 100, &[]).await.is_none());
        drop((first, second));
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test]
    async fn small_responses_and_what_is_charged_already_need_no_room() {
        let budget = Budget::new("responses", 100_000);
        let memory = ResponseMemory::new(budget.clone());
        let all = budget.charge(100_000).await;
        assert!(memory.settle(ApiKey::ApiVersions, None, UNCHARGED, &[]).await.is_none());
        assert!(
            memory
                .settle(ApiKey::Fetch, None, 100_000 + UNCHARGED, std::slice::from_ref(&all))
                .await
                .is_none()
        );
        assert!(memory.settle(ApiKey::Fetch, None, 200_000, &[all]).await.is_none(), "a Fetch doesn't wait");
    }
}
