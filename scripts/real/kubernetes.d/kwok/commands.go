// Package commands names what is built, so that go.mod keeps it.
package commands

import (
	_ "sigs.k8s.io/kwok/pkg/config"
	_ "sigs.k8s.io/kwok/pkg/kwok/cmd"
)
