// Where a cluster is and who we are there: from kubeconfig files, or from what a pod is given.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "backends/kubernetes/api/curl_transport.h"

namespace orch::kubernetes {

// A program that gives credentials (client.authentication.k8s.io).
struct ExecPlugin {
  std::string api_version;  // `client.authentication.k8s.io/v1` or `…/v1beta1`
  std::string command;
  std::vector<std::string> args;
  std::vector<std::pair<std::string, std::string>> env;  // besides the daemon's own
  std::string install_hint;
  bool provide_cluster_info = false;
};

// A user of a kubeconfig. Of each pair the first wins if both are there.
struct Identity {
  std::string certificate_pem, key_pem;  // of the client
  std::string token_file, token;         // the file is read again now and then: it changes
  std::string username, password;
  std::optional<ExecPlugin> exec;
  std::vector<std::string> impersonation;  // headers
};

struct Cluster {
  std::string context;  // as the file calls it; `in-cluster`: a pod's own
  std::string cluster;  // likewise
  std::string space;    // the namespace; `default` if the context names none
  bool in_pod = false;  // it is the pod's own
  ServerAddress server;
  Identity identity;
};

// One file, or several that have been merged; what is in it is not yet checked against each other. Values are as
// written: `certificate-authority` and its like are paths, already relative to no folder.
struct Kubeconfig {
  using Fields = std::map<std::string, std::string>;  // by the words of the file
  struct Context {
    std::string cluster, user, space;
  };
  struct User {
    Fields fields;
    std::optional<ExecPlugin> exec;
    std::string interactive;  // of `exec`
    std::vector<std::string> groups;
    std::map<std::string, std::vector<std::string>> extra;
    bool auth_provider = false;
  };
  std::string current;
  std::map<std::string, Context> contexts;
  std::map<std::string, Fields> clusters;
  std::map<std::string, User> users;
};

// `folder`: the file's, absolute; paths in it are relative to that. INVALID_ARGUMENT (KUBECONFIG_INVALID) with where
// and what; nothing of a value is in it. At most 1 MiB.
absl::StatusOr<Kubeconfig> ParseKubeconfig(absl::string_view text, const std::string& folder);
// What `more` has and `base` has not, by name, is added.
void MergeKubeconfig(const Kubeconfig& more, Kubeconfig* base);
// What a context says, with the files it names read; empty: the current one. INVALID_ARGUMENT (KUBECONFIG_INVALID) with
// all faults of it at once.
absl::StatusOr<Cluster> ResolveContext(const Kubeconfig& config, const std::string& context);

// The files in their order, those that are not there skipped; at least one must be. NOT_FOUND (KUBECONFIG_MISSING), or
// as above.
absl::StatusOr<Cluster> ReadKubeconfig(const std::vector<std::string>& files, const std::string& context);
// `$KUBECONFIG`, a list with colons, or else `~/.kube/config`.
std::vector<std::string> DefaultKubeconfigFiles();

// What a pod has: the two variables' values, and the folder of its service account. FAILED_PRECONDITION
// (NOT_IN_CLUSTER) if it is none.
absl::StatusOr<Cluster> ReadInCluster(const std::string& host, const std::string& port,
                                      const std::string& folder = "/var/run/secrets/kubernetes.io/serviceaccount");

}  // namespace orch::kubernetes
