// Package commands names what is built, so that go.mod keeps it.
package commands

import _ "go.etcd.io/etcd/server/v3/etcdmain"
