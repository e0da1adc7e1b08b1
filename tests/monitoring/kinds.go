// Package monitoring has nothing in it: it names the kinds of which build.sh makes CustomResourceDefinitions, so that go.mod keeps them.
package monitoring

import _ "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
