//go:build tools

// Nothing of its own: go.mod names the helm that is built.
package main

import _ "helm.sh/helm/v3/cmd/helm"
