//! One small workflow in the versions that a change goes through. How to change a ticket's workflow is on
//! docs/changing-the-workflow.md; this is its example.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::allow_attributes,
    reason = "the macros expand to undocumented public marker types"
)]

use std::time::Duration;

use temporalio_macros::activities;
use temporalio_sdk::ActivityOptions;
use temporalio_sdk::activities::{ActivityContext, ActivityError};

/// What is done with a parcel.
pub struct Activities;

#[activities]
impl Activities {
    #[activity]
    pub async fn pick(_ctx: ActivityContext, parcel: String) -> Result<String, ActivityError> {
        Ok(format!("{parcel} from the shelf"))
    }

    #[activity]
    pub async fn weigh(_ctx: ActivityContext, parcel: String) -> Result<u32, ActivityError> {
        Ok(u32::try_from(parcel.len()).unwrap_or(u32::MAX))
    }

    #[activity]
    pub async fn ship(_ctx: ActivityContext, parcel: String) -> Result<String, ActivityError> {
        Ok(format!("{parcel}, shipped"))
    }
}

/// How long the label dries.
const DRYING: Duration = Duration::from_millis(700);

fn options() -> ActivityOptions {
    ActivityOptions::start_to_close_timeout(Duration::from_secs(10))
}

/// Picks a parcel, lets its label dry, and ships it.
pub mod old {
    use temporalio_macros::{workflow, workflow_methods};
    use temporalio_sdk::{WorkflowContext, WorkflowResult};

    use super::{Activities, DRYING, options};

    #[workflow]
    #[derive(Default)]
    pub struct Parcel;

    #[workflow_methods]
    impl Parcel {
        #[run]
        pub async fn run(ctx: &mut WorkflowContext<Self>, parcel: String) -> WorkflowResult<String> {
            let parcel = ctx.execute_activity(Activities::pick, parcel, options()).await?;
            ctx.timer(DRYING).await;
            Ok(ctx.execute_activity(Activities::ship, parcel, options()).await?)
        }
    }
}

/// Weighs it, too: the first release of the change.
pub mod patched {
    use temporalio_macros::{workflow, workflow_methods};
    use temporalio_sdk::{WorkflowContext, WorkflowResult};

    use super::{Activities, DRYING, options};

    #[workflow]
    #[derive(Default)]
    pub struct Parcel;

    #[workflow_methods]
    impl Parcel {
        #[run]
        pub async fn run(ctx: &mut WorkflowContext<Self>, parcel: String) -> WorkflowResult<String> {
            let mut parcel = ctx.execute_activity(Activities::pick, parcel, options()).await?;
            if ctx.patched("weigh-parcels") {
                let grams = ctx.execute_activity(Activities::weigh, parcel.clone(), options()).await?;
                parcel = format!("{parcel}, {grams} g");
            }
            ctx.timer(DRYING).await;
            Ok(ctx.execute_activity(Activities::ship, parcel, options()).await?)
        }
    }
}

/// The second release: no history without the marker is left.
pub mod deprecated {
    use temporalio_macros::{workflow, workflow_methods};
    use temporalio_sdk::{WorkflowContext, WorkflowResult};

    use super::{Activities, DRYING, options};

    #[workflow]
    #[derive(Default)]
    pub struct Parcel;

    #[workflow_methods]
    impl Parcel {
        #[run]
        pub async fn run(ctx: &mut WorkflowContext<Self>, parcel: String) -> WorkflowResult<String> {
            let parcel = ctx.execute_activity(Activities::pick, parcel, options()).await?;
            ctx.deprecate_patch("weigh-parcels");
            let grams = ctx.execute_activity(Activities::weigh, parcel.clone(), options()).await?;
            let parcel = format!("{parcel}, {grams} g");
            ctx.timer(DRYING).await;
            Ok(ctx.execute_activity(Activities::ship, parcel, options()).await?)
        }
    }
}

/// The third release: no history with a marker that the first release wrote is left. Released first, this is the mistake.
pub mod plain {
    use temporalio_macros::{workflow, workflow_methods};
    use temporalio_sdk::{WorkflowContext, WorkflowResult};

    use super::{Activities, DRYING, options};

    #[workflow]
    #[derive(Default)]
    pub struct Parcel;

    #[workflow_methods]
    impl Parcel {
        #[run]
        pub async fn run(ctx: &mut WorkflowContext<Self>, parcel: String) -> WorkflowResult<String> {
            let parcel = ctx.execute_activity(Activities::pick, parcel, options()).await?;
            let grams = ctx.execute_activity(Activities::weigh, parcel.clone(), options()).await?;
            let parcel = format!("{parcel}, {grams} g");
            ctx.timer(DRYING).await;
            Ok(ctx.execute_activity(Activities::ship, parcel, options()).await?)
        }
    }
}

/// As the old one, with a label that dries for longer: nothing that the SDK's replayer sees.
pub mod slower {
    use temporalio_macros::{workflow, workflow_methods};
    use temporalio_sdk::{WorkflowContext, WorkflowResult};

    use super::{Activities, DRYING, options};

    #[workflow]
    #[derive(Default)]
    pub struct Parcel;

    #[workflow_methods]
    impl Parcel {
        #[run]
        pub async fn run(ctx: &mut WorkflowContext<Self>, parcel: String) -> WorkflowResult<String> {
            let parcel = ctx.execute_activity(Activities::pick, parcel, options()).await?;
            ctx.timer(DRYING * 2).await;
            Ok(ctx.execute_activity(Activities::ship, parcel, options()).await?)
        }
    }
}

/// As the old one, and breaks where the label is dry.
pub mod broken {
    use temporalio_macros::{workflow, workflow_methods};
    use temporalio_sdk::{WorkflowContext, WorkflowResult};

    use super::{Activities, DRYING, options};

    #[workflow]
    #[derive(Default)]
    pub struct Parcel;

    #[workflow_methods]
    impl Parcel {
        #[run]
        pub async fn run(ctx: &mut WorkflowContext<Self>, parcel: String) -> WorkflowResult<String> {
            ctx.execute_activity(Activities::pick, parcel, options()).await?;
            ctx.timer(DRYING).await;
            panic!("the label fell off");
        }
    }
}
