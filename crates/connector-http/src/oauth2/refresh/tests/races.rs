//! Many who want the same token at once, and holders of a lease who come back too late.

use super::*;

/// Lets all of these ask at the same moment and gives back what they got.
async fn all_ask(processes: &[Process], each: usize) -> Vec<String> {
    let tasks: Vec<_> =
        processes.iter().flat_map(|process| vec![process.clone(); each]).map(|process| tokio::spawn(async move { process.token().await })).collect();
    let mut tokens = Vec::new();
    for task in tasks {
        tokens.push(task.await.unwrap());
    }
    tokens
}

#[tokio::test(start_paused = true)]
async fn sixty_four_callers_renew_once() {
    let world = World::connected().await;
    an_hour().await;
    assert_eq!(all_ask(&[world.process()], 64).await, vec!["Bearer a2"; 64]);
    assert_eq!(world.server.posts(), 1);
    let facts = world.facts().await;
    assert_eq!((facts.state, facts.serial, facts.intent, facts.keep["hub_id"].as_str()), (TokenState::Active, 2, None, "7"));
}

#[tokio::test(start_paused = true)]
async fn two_processes_renew_once_and_nobody_waits_long() {
    let world = World::connected().await;
    an_hour().await;
    let before = Instant::now();
    assert_eq!(all_ask(&[world.process(), world.process()], 32).await, vec!["Bearer a2"; 64]);
    assert_eq!(world.server.posts(), 1);
    assert!(before.elapsed() < Duration::from_millis(1050), "{:?}", before.elapsed());
}

#[tokio::test(start_paused = true)]
async fn eight_processes_over_twenty_rotations_never_use_a_refresh_token_twice() {
    let world = World::connected().await;
    let processes: Vec<_> = (0..8).map(|_| world.process()).collect();
    for rotation in 1..=20 {
        an_hour().await;
        let expected = format!("Bearer a{}", rotation + 1);
        assert!(all_ask(&processes, 50).await.iter().all(|token| *token == expected), "{expected}");
        assert_eq!(world.server.posts(), rotation);
    }
    assert!(!world.server.revoked());
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_gives_up_does_not_take_the_new_tokens_along() {
    let world = World::connected().await;
    an_hour().await;
    let process = world.process();
    let caller = {
        tokio::spawn({
            let process = process.clone();
            async move { process.token().await }
        })
    };
    sleep(Duration::from_millis(10)).await;
    assert_eq!(world.server.posts(), 1, "it is on its way");
    caller.abort();
    assert_eq!(process.token().await, "Bearer a2");
    assert_eq!((world.server.posts(), world.facts().await.serial), (1, 2));
}

/// A store between a process and the real one that stalls or fails.
#[derive(Debug)]
struct Troubled {
    inner: Arc<dyn TokenStore>,
    trouble: Mutex<VecDeque<Trouble>>,
    saves: Mutex<Vec<(Condition, bool)>>,
}

/// What happens to a save.
#[derive(Debug, Clone, Copy)]
enum Trouble {
    No,
    /// It takes this many seconds to begin.
    StallsBefore(u64),
    /// It takes this many seconds to say that it is done.
    StallsAfter(u64),
    /// It fails.
    Fails,
    /// It is done, and says that it failed.
    LosesTheAnswer,
}

impl Troubled {
    fn over(world: &World, trouble: &[Trouble]) -> Arc<Self> {
        Arc::new(Self { inner: world.tokens.clone(), trouble: Mutex::new(trouble.iter().copied().collect()), saves: Mutex::default() })
    }

    fn saves(&self) -> Vec<(Condition, bool)> {
        self.saves.lock().unwrap().clone()
    }
}

#[async_trait]
impl TokenStore for Troubled {
    async fn load(&self, query: &CredentialQuery<'_>) -> Result<Option<TokenRow>> {
        self.inner.load(query).await
    }

    async fn save(&self, query: &CredentialQuery<'_>, record: &TokenRecord, condition: Condition) -> Result<Option<u64>> {
        let trouble = self.trouble.lock().unwrap().pop_front().unwrap_or(Trouble::No);
        let away = || Error::new(ErrorKind::Transient, "the database is away");
        match trouble {
            Trouble::Fails => return Err(away()),
            Trouble::StallsBefore(time) => seconds(time).await,
            _ => {}
        }
        let saved = self.inner.save(query, record, condition).await?;
        self.saves.lock().unwrap().push((condition, saved.is_some()));
        match trouble {
            Trouble::LosesTheAnswer => Err(away()),
            Trouble::StallsAfter(time) => {
                seconds(time).await;
                Ok(saved)
            }
            _ => Ok(saved),
        }
    }

    async fn lease(&self, query: &CredentialQuery<'_>, time: Duration) -> Result<Option<TokenLease>> {
        self.inner.lease(query, time).await
    }

    async fn release(&self, query: &CredentialQuery<'_>, lease: TokenLease) -> Result<()> {
        self.inner.release(query, lease).await
    }

    async fn remove(&self, query: &CredentialQuery<'_>) -> Result<bool> {
        self.inner.remove(query).await
    }
}

#[tokio::test(start_paused = true)]
async fn the_intent_is_written_before_the_request_and_the_tokens_before_they_are_used() {
    let world = World::connected().await;
    an_hour().await;
    let store = Troubled::over(&world, &[]);
    world.server.takes(Duration::from_secs(3));
    let process = world.process_over(0, store.clone());
    let caller = tokio::spawn(async move { process.token().await });
    seconds(1).await;
    assert_eq!((world.server.posts(), world.facts().await.intent, store.saves()), (1, Some(1), vec![(Condition::Is(1), true)]));
    assert_eq!(caller.await.unwrap(), "Bearer a2");
    assert_eq!(store.saves(), [(Condition::Is(1), true), (Condition::Is(2), true)]);
    assert!(world.tokens.lease(&CredentialQuery::of(&cx(), "crm"), Duration::from_secs(1)).await.unwrap().is_some(), "the lease was given back");
}

#[tokio::test(start_paused = true)]
async fn who_slept_through_the_lease_writes_nothing_and_uses_what_others_wrote() {
    let world = World::connected().await;
    an_hour().await;
    // The answer to the sleeper leaves the refresh token as it is, so that the other one's is not reuse.
    world.server.will(&[Says::Answers(200, r#"{"access_token":"sleeper","expires_in":3600}"#)]);
    let store = Troubled::over(&world, &[Trouble::No, Trouble::StallsBefore(90)]);
    let sleeper = world.process_over(0, store.clone());
    let sleeping = tokio::spawn(async move { sleeper.token().await });
    seconds(1).await;
    assert_eq!(world.process().token().await, "Bearer a2", "after the lease ended");
    assert_eq!(world.server.posts(), 2);
    assert_eq!(sleeping.await.unwrap(), "Bearer a2", "what it got itself is thrown away");
    assert_eq!(store.saves().last(), Some(&(Condition::Is(2), false)));
    assert_eq!((world.server.posts(), world.facts().await.serial), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn who_slept_before_the_request_does_not_send_it_any_more() {
    let world = World::connected().await;
    an_hour().await;
    let sleeper = world.process_over(0, Troubled::over(&world, &[Trouble::StallsAfter(90)]));
    let sleeping = tokio::spawn(async move { sleeper.token().await });
    seconds(1).await;
    assert_eq!((world.server.posts(), world.facts().await.intent), (0, Some(1)));
    assert_eq!(world.process().token().await, "Bearer a2");
    assert_eq!(sleeping.await.unwrap(), "Bearer a2");
    assert_eq!((world.server.posts(), world.server.revoked()), (1, false), "a second request would have ended the family");
}

#[tokio::test(start_paused = true)]
async fn new_tokens_get_into_the_store_even_if_it_fails_at_first() {
    for trouble in [vec![Trouble::No, Trouble::Fails, Trouble::Fails, Trouble::Fails], vec![Trouble::No, Trouble::LosesTheAnswer]] {
        let world = World::connected().await;
        an_hour().await;
        let process = world.process_over(0, Troubled::over(&world, &trouble));
        assert_eq!(process.token().await, "Bearer a2", "{trouble:?}");
        assert_eq!((world.server.posts(), world.facts().await.serial), (1, 2));
    }
}

#[tokio::test(start_paused = true)]
async fn tokens_that_cannot_be_written_are_never_used() {
    let world = World::connected().await;
    an_hour().await;
    let trouble: Vec<_> = std::iter::once(Trouble::No).chain(std::iter::repeat_n(Trouble::Fails, 500)).collect();
    let error = world.process_over(0, Troubled::over(&world, &trouble)).error().await;
    assert_eq!((error.kind(), world.server.posts()), (ErrorKind::NotSent, 1));
    assert!(world.facts().await.intent.is_some(), "whoever comes next knows that the outcome is not known");
}

#[tokio::test(start_paused = true)]
async fn a_rejected_token_is_renewed_once_by_all_processes() {
    let world = World::connected().await;
    let processes = [world.process(), world.process()];
    let (_, used) = processes[0].ask().await.unwrap();
    assert_eq!(processes[1].ask().await.unwrap().1, used);
    let tasks: Vec<_> = processes
        .iter()
        .flat_map(|process| vec![process.clone(); 32])
        .map(|process| tokio::spawn(async move { process.auth.rejected(&cx(), &used).await.unwrap() }))
        .collect();
    for task in tasks {
        assert!(task.await.unwrap());
    }
    assert_eq!(all_ask(&processes, 1).await, ["Bearer a2", "Bearer a2"]);
    assert!(processes[1].auth.rejected(&cx(), &used).await.unwrap(), "a late 401 of the old token");
    assert_eq!(world.server.posts(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_vendor_that_refuses_everything_does_not_get_a_renewal_for_each_call() {
    let world = World::connected().await;
    let process = world.process();
    let mut renewed = 0;
    for _ in 0..60 {
        let (_, used) = process.ask().await.unwrap();
        renewed += usize::from(process.auth.rejected(&cx(), &used).await.unwrap());
        seconds(1).await;
    }
    assert_eq!((renewed, world.server.posts()), (2, 2), "the first 401, and one more after half a minute");
}
