//! The trees of accounts: opened at login, shared by the sessions of a core to whom the same holds.

use std::path::PathBuf;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use tracing::warn;

use super::Core;
use crate::auth::{Account, FileRules, NamePattern, Permissions};
use crate::vfs;

/// Everything that a tree is made from. Sessions share one only if nothing in it differs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct RootKey {
    home: PathBuf,
    permissions: Permissions,
    /// The account's own rules.
    own: Arc<FileRules>,
    /// Those of the server, which a reload may change.
    common: Arc<FileRules>,
    /// How files are shown and made, by its place in memory: as long as a tree lives, nothing else is there.
    files: *const vfs::Settings,
}

impl Core {
    /// The user's root directory, open; shared by the user's sessions on this core.
    pub(super) async fn root_of(&self, account: &Account) -> Option<Rc<vfs::Root>> {
        let settings = self.settings();
        let key = RootKey {
            home: account.home.clone(),
            permissions: account.permissions,
            own: Arc::clone(&account.file_rules),
            common: Arc::clone(&settings.file_rules),
            files: Rc::as_ptr(&settings.files),
        };
        if let Some(root) = self.roots.borrow().get(&key).and_then(Weak::upgrade) {
            return Some(root);
        }
        let layout = layout(&key.own, &key.common);
        let files = Rc::clone(&settings.files);
        let opening = vfs::Root::open_on_pool(&key.home, rights(key.permissions), layout, files);
        match opening.await {
            Ok(root) => {
                let mut roots = self.roots.borrow_mut();
                // Another login of the user may have been sooner.
                if let Some(root) = roots.get(&key).and_then(Weak::upgrade) {
                    return Some(root);
                }
                roots.retain(|_, root| root.strong_count() > 0);
                roots.insert(key, Rc::downgrade(&root));
                Some(root)
            }
            Err(missing) => {
                let (directory, error) = (missing.directory.display(), &missing.error);
                match missing.mounted_at {
                    Some(at) => warn!(
                        user = account.name,
                        %at,
                        %directory,
                        %error,
                        "a mount of the user's cannot be opened: create the directory, or let the server's account enter it"
                    ),
                    None => warn!(
                        user = account.name,
                        home = %directory,
                        %error,
                        "the user's home cannot be opened: create it, or let the server's account enter it"
                    ),
                }
                None
            }
        }
    }
}

/// What the rules of an account, and those of the server, mean for files.
fn layout(own: &FileRules, common: &FileRules) -> vfs::Layout {
    if own.is_empty() && common.is_empty() {
        return vfs::Layout::default();
    }
    let rules = own.over(common);
    let names = |patterns: &[NamePattern]| {
        let octets = patterns.iter().map(|pattern| pattern.as_str().as_bytes());
        octets.map(Box::from).collect()
    };
    let paths = rules.path_permissions().into_iter();
    let mounts = rules.mounts().iter();
    vfs::Layout {
        paths: paths
            .map(|(path, permissions)| (path.clone(), rights(permissions)))
            .collect(),
        mounts: mounts
            .map(|mount| (mount.at.clone(), mount.directory.clone()))
            .collect(),
        hidden: names(rules.hidden()),
        denied: names(rules.denied()),
    }
}

/// What an account's permissions mean for files.
fn rights(permissions: Permissions) -> vfs::Rights {
    vfs::Rights {
        read: permissions.allows(Permissions::READ),
        write: permissions.allows(Permissions::WRITE),
        append: permissions.allows(Permissions::APPEND),
        delete: permissions.allows(Permissions::DELETE),
        rename: permissions.allows(Permissions::RENAME),
        list: permissions.allows(Permissions::LIST),
        make_directory: permissions.allows(Permissions::MAKE_DIRECTORY),
        change: permissions.allows(Permissions::CHANGE),
    }
}
