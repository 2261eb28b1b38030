//! Who may do what. Tenants are user ids of the peers of the Unix sockets; the user who started the cluster owns everything in it.

use super::error::{Code, ControlError};
use super::records::{Grant, GrantRecord};
use super::store::Records;

/// Something that needs permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// Changing the cluster: regions, deployments, grants, stopping.
    Change,
    /// Reading or writing region bytes through control.
    Contents,
    /// Seeing a deployment and sending requests to it.
    Invoke(&'a str),
}

/// Refuses what `tenant` may not do in a cluster of `owner`.
pub fn authorise(records: &Records, owner: u32, tenant: u32, action: Action<'_>) -> Result<(), ControlError> {
    if tenant == owner {
        return Ok(());
    }
    let (what, hint) = match action {
        Action::Invoke(deployment) if granted(records, owner, tenant, deployment)?.is_some() => return Ok(()),
        Action::Invoke(deployment) => (
            format!("user {tenant} was not granted deployment {deployment:?}"),
            format!("its owner can grant it: `naam-run grant {tenant} {deployment} invoke`"),
        ),
        Action::Change => (format!("user {tenant} does not own this cluster"), format!("ask its owner, user {owner}")),
        Action::Contents => {
            (format!("user {tenant} does not own this cluster's regions"), format!("ask their owner, user {owner}"))
        }
    };
    Err(ControlError::new(Code::Forbidden, what).hint(hint))
}

/// What `tenant` may do with a deployment.
pub fn granted(records: &Records, owner: u32, tenant: u32, deployment: &str) -> Result<Option<Grant>, ControlError> {
    if tenant == owner {
        return Ok(Some(Grant::Direct));
    }
    Ok(records.get::<GrantRecord>(&key(deployment, tenant))?.map(|record| record.grant))
}

/// The name of a grant's record.
pub fn key(deployment: &str, tenant: u32) -> String {
    format!("{deployment}/{tenant}")
}

#[cfg(test)]
mod tests {
    use super::super::store::Embedded;
    use super::*;

    #[test]
    fn only_the_owner_changes_and_only_the_granted_invoke() {
        let mut records = Records::new(Box::new(Embedded::default()));
        let record = GrantRecord { deployment: "table".into(), tenant: 7, grant: Grant::Invoke };
        records.put(&key("table", 7), &record).unwrap();
        let may = |tenant, action| authorise(&records, 1, tenant, action).is_ok();
        let actions = [Action::Change, Action::Contents, Action::Invoke("table"), Action::Invoke("other"), Action::Invoke("tabl")];
        let answers = |tenant| actions.map(|action| may(tenant, action));
        assert_eq!(answers(1), [true; 5]);
        assert_eq!(answers(7), [false, false, true, false, false]);
        assert_eq!(answers(0), [false; 5]);
        assert_eq!(granted(&records, 1, 1, "table").unwrap(), Some(Grant::Direct));
        assert_eq!(granted(&records, 1, 7, "table").unwrap(), Some(Grant::Invoke));
        assert_eq!(granted(&records, 1, 70, "table").unwrap(), None);
    }
}
