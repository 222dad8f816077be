//! Giving up the privileges of root, once the ports are bound. Not on Apple's systems, which keep no saved user.

use std::io;
use std::str::FromStr;

/// A user to become, and a group; by name or number.
#[derive(Clone, Debug)]
#[cfg_attr(not(all(unix, not(target_vendor = "apple"))), allow(dead_code))]
pub struct Account {
    user: String,
    group: Option<String>,
}

const ROOT: &str = "root would keep all privileges: name another user, or leave --user out";

impl FromStr for Account {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        if user.is_empty() || group.is_some_and(str::is_empty) {
            return Err("want USER or USER:GROUP, each a name or a number".to_owned());
        }
        if user == "root" || user.parse() == Ok(0) {
            return Err(ROOT.to_owned());
        }
        Ok(Self { user: user.to_owned(), group: group.map(str::to_owned) })
    }
}

impl Account {
    /// Becomes that user and group for good, in all threads, and makes sure that there is no way back.
    #[cfg(all(unix, not(target_vendor = "apple")))]
    pub fn become_it(&self) -> io::Result<()> {
        use nix::unistd::{Uid, getresgid, getresuid, initgroups, setgroups, setresgid, setresuid};

        let (user, own_group, name) = self.find_user()?;
        if user.is_root() {
            return Err(io::Error::other(ROOT)); // by another name
        }
        let group = self.group.as_deref().map_or(Ok(own_group), find_group)?;
        match name {
            Some(name) => initgroups(&name, group)?,
            None => setgroups(&[group])?,
        }
        setresgid(group, group, group)?;
        setresuid(user, user, user)?;
        let (users, groups) = (getresuid()?, getresgid()?);
        let is_all = [users.real, users.effective, users.saved].iter().all(|id| *id == user)
            && [groups.real, groups.effective, groups.saved].iter().all(|id| *id == group);
        let is_final = setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0)).is_err();
        if is_all && is_final { Ok(()) } else { Err(io::Error::other("the system kept a way back")) }
    }

    #[cfg(not(all(unix, not(target_vendor = "apple"))))]
    pub fn become_it(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The user, its own group, and its name if it has one.
    #[cfg(all(unix, not(target_vendor = "apple")))]
    fn find_user(&self) -> io::Result<(nix::unistd::Uid, nix::unistd::Gid, Option<std::ffi::CString>)> {
        use nix::unistd::{Gid, Uid, User};

        let number = self.user.parse().ok();
        let found = match number {
            Some(number) => User::from_uid(Uid::from_raw(number))?,
            None => User::from_name(&self.user)?,
        };
        match (found, number) {
            (Some(user), _) => Ok((user.uid, user.gid, std::ffi::CString::new(user.name).ok())),
            (None, Some(number)) => Ok((Uid::from_raw(number), Gid::from_raw(number), None)),
            (None, None) => Err(unknown("user", &self.user)),
        }
    }
}

#[cfg(all(unix, not(target_vendor = "apple")))]
fn find_group(name: &str) -> io::Result<nix::unistd::Gid> {
    use nix::unistd::{Gid, Group};

    match name.parse() {
        Ok(number) => Ok(Gid::from_raw(number)),
        Err(_) => Group::from_name(name)?.map(|group| group.gid).ok_or_else(|| unknown("group", name)),
    }
}

#[cfg(all(unix, not(target_vendor = "apple")))]
fn unknown(what: &str, name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("this machine has no {what} '{name}'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_stands_alone_or_with_a_group() {
        let parsed: Account = "nobody:nogroup".parse().unwrap();
        assert_eq!((parsed.user.as_str(), parsed.group.as_deref()), ("nobody", Some("nogroup")));
        assert_eq!("nobody".parse::<Account>().unwrap().group, None);
        for text in ["", ":", "nobody:", ":nogroup"] {
            assert!(text.parse::<Account>().is_err(), "{text}");
        }
        for text in ["root", "root:nogroup", "0", "00:1"] {
            assert_eq!(text.parse::<Account>().unwrap_err(), ROOT, "{text}");
        }
    }

    #[cfg(all(unix, not(target_vendor = "apple")))]
    #[test]
    fn who_is_not_there_is_named() {
        let error = |text: &str| text.parse::<Account>().unwrap().become_it().unwrap_err().to_string();
        assert_eq!(error("no-such-user"), "this machine has no user 'no-such-user'");
        assert_eq!(error("1:no-such-group"), "this machine has no group 'no-such-group'");
        // As another name of root's is found.
        let root = Account { user: "0".to_owned(), group: None };
        assert_eq!(root.become_it().unwrap_err().to_string(), ROOT);
    }
}
