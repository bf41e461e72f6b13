// Command generator prints what istiod makes of documents, for proxies of one's choice.
//
// It reads JSON values from standard input, one after the other:
//
//	{"documents": [OBJECT...], "proxies": [{"name", "type": "sidecar"|"router", "namespace", "address", "labels", "serviceAccount"}]}
//
// and writes one line for each: {"refused": [{"index", "why", "left"}], "proxies": {NAME: {"listeners", "routes", "clusters",
// "endpoints"}}, "error"}, the resources in proto3 JSON with the fields' own names. Documents that cannot be read are
// left out ("left"); those that istiod's validation (its webhook) would keep out of a cluster are, too, if "strict" is true. The rest is istiod's own code: registries,
// conversion of Kubernetes objects, generators.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/runtime"

	networking "istio.io/client-go/pkg/apis/networking/v1"
	"istio.io/istio/pilot/pkg/config/kube/crd"
	"istio.io/istio/pilot/pkg/model"
	"istio.io/istio/pilot/test/xds"
	"istio.io/istio/pkg/config"
	"istio.io/istio/pkg/config/mesh"
	"istio.io/istio/pkg/config/schema/collections"
	"istio.io/istio/pkg/config/schema/gatewayapi"
	"istio.io/istio/pkg/config/schema/gvk"
	"istio.io/istio/pkg/config/schema/gvr"
	"istio.io/istio/pkg/config/schema/resource"
	"istio.io/istio/pkg/kube"
	"istio.io/istio/pkg/kube/kclient/clienttest"
	"istio.io/istio/pkg/log"
	"istio.io/istio/pkg/test"
)

const domain = "cluster.local"

type wanted struct {
	Name           string            `json:"name"`
	Type           string            `json:"type"`
	Namespace      string            `json:"namespace"`
	Address        string            `json:"address"`
	Labels         map[string]string `json:"labels"`
	ServiceAccount string            `json:"serviceAccount"`
}

type request struct {
	Documents []json.RawMessage `json:"documents"`
	Proxies   []wanted          `json:"proxies"`
	Strict    bool              `json:"strict"`
}

type refusal struct {
	Index int    `json:"index"`
	Why   string `json:"why"`
	Left  bool   `json:"left"`
}

type resources struct {
	Listeners []json.RawMessage `json:"listeners"`
	Routes    []json.RawMessage `json:"routes"`
	Clusters  []json.RawMessage `json:"clusters"`
	Endpoints []json.RawMessage `json:"endpoints"`
}

func each[M proto.Message](t test.Failer, messages []M) []json.RawMessage {
	out := []json.RawMessage{}
	for _, message := range messages {
		text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(message)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, text)
	}
	return out
}

// read tells Istio's configuration from Kubernetes' objects.
func read(document json.RawMessage) (*config.Config, runtime.Object, error) {
	var object crd.IstioKind
	if err := json.Unmarshal(document, &object); err != nil {
		return nil, nil, err
	}
	kind := object.GroupVersionKind()
	schema, known := collections.Pilot.FindByGroupVersionAliasesKind(resource.FromKubernetesGVK(&kind))
	if !known {
		decoded, _, err := kube.IstioCodec.UniversalDeserializer().Decode(document, nil, nil)
		return nil, decoded, err
	}
	converted, err := crd.ConvertObject(schema, &object, domain)
	if err != nil {
		return nil, nil, err
	}
	_, err = schema.ValidateConfig(*converted)
	return converted, nil, err
}

func generate(t test.Failer, asked request) ([]refusal, map[string]resources) {
	m := mesh.DefaultMeshConfig()
	// no access logs and metrics: they are not about what is decided
	m.DefaultProviders = nil
	options := xds.FakeOptions{MeshConfig: m}
	refused := []refusal{}
	for index, document := range asked.Documents {
		configured, object, err := read(document)
		if err != nil {
			left := asked.Strict || configured == nil
			refused = append(refused, refusal{index, err.Error(), left})
			if left {
				continue
			}
		}
		if configured != nil {
			options.Configs = append(options.Configs, *configured)
			// routes look for their parents among the cluster's objects
			if entry := new(networking.ServiceEntry); configured.GroupVersionKind == gvk.ServiceEntry {
				if json.Unmarshal(document, entry) == nil {
					options.KubernetesObjects = append(options.KubernetesObjects, entry)
				}
			}
		} else {
			options.KubernetesObjects = append(options.KubernetesObjects, object)
		}
	}
	options.KubeClientModifier = func(c kube.Client) {
		clienttest.MakeCRD(t, c, gvr.BackendTLSPolicy)
	}
	s := xds.NewFakeDiscoveryServer(t, options)
	s.Discovery.ConfigUpdate(&model.PushRequest{Forced: true})
	s.EnsureSynced(t)
	out := map[string]resources{}
	for _, w := range asked.Proxies {
		kind := model.SidecarProxy
		if w.Type == "router" {
			kind = model.Router
		}
		proxy := s.SetupProxy(&model.Proxy{
			Type:            kind,
			ID:              w.Name + "." + w.Namespace,
			ConfigNamespace: w.Namespace,
			IPAddresses:     []string{w.Address},
			Labels:          w.Labels,
			Metadata: &model.NodeMetadata{
				Namespace:      w.Namespace,
				Labels:         w.Labels,
				ServiceAccount: w.ServiceAccount,
				IstioVersion:   "1.31.0",
				ClusterID:      "Kubernetes",
				// services without an address have the one that their status tells
				DNSCapture: true,
			},
		})
		listeners := s.Listeners(proxy)
		out[w.Name] = resources{
			Listeners: each(t, listeners),
			Routes:    each(t, s.RoutesFromListeners(proxy, listeners)),
			Clusters:  each(t, s.Clusters(proxy)),
			Endpoints: each(t, s.Endpoints(proxy)),
		}
	}
	return refused, out
}

func main() {
	options := log.DefaultOptions()
	options.SetDefaultOutputLevel("all", log.ErrorLevel)
	options.OutputPaths = []string{"stderr"}
	_ = log.Configure(options)
	// the definitions that the test's cluster has tell no version
	clear(gatewayapi.MinimumCRDVersions)
	decoder := json.NewDecoder(os.Stdin)
	encoder := json.NewEncoder(os.Stdout)
	// one answer for each request, until the input ends
	for {
		var asked request
		err := decoder.Decode(&asked)
		if err == io.EOF {
			return
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		var refused []refusal
		var found map[string]resources
		problem := ""
		if err := test.Wrap(func(t test.Failer) { refused, found = generate(t, asked) }); err != nil {
			problem = err.Error()
		}
		answer := map[string]any{"refused": refused, "proxies": found, "error": problem}
		if err := encoder.Encode(answer); err != nil {
			os.Exit(1)
		}
	}
}
