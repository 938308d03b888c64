#include "backends/kubernetes/api/kubeconfig.h"

#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "backends/kubernetes/api/yaml_tree.h"
#include "server/base/status.h"

namespace orch::kubernetes {
namespace {

using Kind = YamlNode::Kind;

constexpr size_t kMaxFile = 1 << 20;

absl::Status Invalid(absl::string_view what) {
  return Error(absl::StatusCode::kInvalidArgument, "KUBECONFIG_INVALID", absl::StrCat("the kubeconfig: ", what));
}

absl::StatusOr<std::string> ReadSmallFile(const std::string& path) {
  struct stat st {};
  if (stat(path.c_str(), &st) != 0) {
    return Error(absl::StatusCode::kNotFound, "KUBECONFIG_MISSING", absl::StrCat("there is no ", path));
  }
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  if (!S_ISREG(st.st_mode) || !in || !(text << in.rdbuf())) return Invalid(absl::StrCat(path, " cannot be read"));
  if (text.str().size() > kMaxFile) return Invalid(absl::StrCat(path, " is larger than 1 MiB"));
  return text.str();
}

std::string Absolute(const std::string& path, const std::string& folder) {
  return path.empty() || path.front() == '/' || folder.empty() ? path : absl::StrCat(folder, "/", path);
}

// The fields that are texts; others are left out, and what nobody knows stands for nothing.
Kubeconfig::Fields TextsOf(const YamlNode& node, const std::string& folder) {
  Kubeconfig::Fields out;
  for (size_t i = 0; i < node.keys.size(); ++i) {
    const std::string& key = node.keys[i];
    const YamlNode& value = node.list[i];
    if (value.kind != Kind::kText) continue;
    const bool path =
        key == "certificate-authority" || key == "client-certificate" || key == "client-key" || key == "tokenFile";
    out[key] = path ? Absolute(value.text, folder) : value.text;
  }
  return out;
}

std::string TextAt(const YamlNode& node, absl::string_view key) {
  const YamlNode* found = node.Find(key);
  return found == nullptr ? "" : found->text;
}

std::vector<std::string> ListAt(const YamlNode& node, absl::string_view key) {
  std::vector<std::string> out;
  if (const YamlNode* found = node.Find(key)) {
    for (const YamlNode& item : found->list) out.push_back(item.text);
  }
  return out;
}

ExecPlugin ExecOf(const YamlNode& node, const std::string& folder) {
  ExecPlugin out;
  out.api_version = TextAt(node, "apiVersion");
  out.command = TextAt(node, "command");
  // A name without a slash is looked for on PATH.
  if (absl::StrContains(out.command, '/')) out.command = Absolute(out.command, folder);
  out.args = ListAt(node, "args");
  out.install_hint = TextAt(node, "installHint");
  out.provide_cluster_info = TextAt(node, "provideClusterInfo") == "true";
  if (const YamlNode* env = node.Find("env")) {
    for (const YamlNode& variable : env->list)
      out.env.emplace_back(TextAt(variable, "name"), TextAt(variable, "value"));
  }
  return out;
}

Kubeconfig::User UserOf(const YamlNode& node, const std::string& folder) {
  Kubeconfig::User out;
  out.fields = TextsOf(node, folder);
  out.groups = ListAt(node, "as-groups");
  const YamlNode* provider = node.Find("auth-provider");
  out.auth_provider = provider != nullptr && provider->kind != Kind::kNull;
  if (const YamlNode* extra = node.Find("as-user-extra")) {
    for (const std::string& key : extra->keys) out.extra[key] = ListAt(*extra, key);
  }
  if (const YamlNode* exec = node.Find("exec"); exec != nullptr && exec->kind == Kind::kMap) {
    out.exec = ExecOf(*exec, folder);
    out.interactive = TextAt(*exec, "interactiveMode");
  }
  return out;
}

// What a context says, with all that is wrong with it.
class Resolver {
 public:
  explicit Resolver(const Kubeconfig& config) : config_(config) {}

  absl::StatusOr<Cluster> Resolve(const std::string& wanted) {
    Cluster out;
    out.context = wanted.empty() ? config_.current : wanted;
    const auto context = config_.contexts.find(out.context);
    if (context == config_.contexts.end()) {
      if (out.context.empty()) return Invalid("it has no current-context; name a context");
      return Invalid(absl::StrCat("it has no context `", out.context, "`; it has ", Names(config_.contexts)));
    }
    out.space = context->second.space.empty() ? "default" : context->second.space;
    out.cluster = context->second.cluster;
    const auto cluster = config_.clusters.find(context->second.cluster);
    if (cluster == config_.clusters.end()) {
      Fault(absl::StrCat("context `", out.context, "` names the cluster `", context->second.cluster,
                         "`, which is not there"));
    } else {
      ReadCluster(cluster->second, &out.server);
    }
    const auto user = config_.users.find(context->second.user);
    if (user != config_.users.end()) {
      ReadUser(user->second, &out.identity);
    } else if (!context->second.user.empty()) {
      Fault(
          absl::StrCat("context `", out.context, "` names the user `", context->second.user, "`, which is not there"));
    }
    if (!faults_.empty()) return Invalid(absl::StrJoin(faults_, "; "));
    return out;
  }

 private:
  template <typename Map>
  static std::string Names(const Map& map) {
    std::vector<std::string> names;
    for (const auto& entry : map) names.push_back(entry.first);
    return names.empty() ? "none" : absl::StrJoin(names, ", ");
  }

  void Fault(std::string what) { faults_.push_back(std::move(what)); }

  static std::string Field(const Kubeconfig::Fields& fields, const std::string& name) {
    const auto found = fields.find(name);
    return found == fields.end() ? "" : found->second;
  }

  // The bytes of `name-data`, or else of the file `name`.
  std::string Bytes(const Kubeconfig::Fields& fields, const std::string& name) {
    const std::string data = Field(fields, name + "-data");
    if (!data.empty()) {
      std::string out;
      if (absl::Base64Unescape(data, &out)) return out;
      Fault(absl::StrCat(name, "-data is no base64"));
      return "";
    }
    const std::string path = Field(fields, name);
    if (path.empty()) return "";
    absl::StatusOr<std::string> text = ReadSmallFile(path);
    if (text.ok()) return *std::move(text);
    Fault(absl::StrCat(name, ": ", text.status().message()));
    return "";
  }

  void ReadCluster(const Kubeconfig::Fields& fields, ServerAddress* out) {
    out->url = Field(fields, "server");
    while (absl::EndsWith(out->url, "/")) out->url.pop_back();
    if (!absl::StartsWith(out->url, "https://") && !absl::StartsWith(out->url, "http://")) {
      Fault("the cluster's server must be an address that begins with https:// or http://");
    }
    for (const char c : out->url) {
      if (absl::ascii_isspace(static_cast<unsigned char>(c)) || absl::ascii_iscntrl(static_cast<unsigned char>(c)) ||
          c == '?' || c == '#') {
        Fault("the cluster's server has a character that no address has");
        break;
      }
    }
    out->ca_pem = Bytes(fields, "certificate-authority");
    out->tls_server_name = Field(fields, "tls-server-name");
    out->insecure = Field(fields, "insecure-skip-tls-verify") == "true";
    if (out->insecure && !out->ca_pem.empty()) {
      Fault("insecure-skip-tls-verify and a certificate authority contradict each other; leave one out");
    }
    out->proxy = Field(fields, "proxy-url");
    if (!out->proxy.empty() && !absl::StartsWith(out->proxy, "http://") && !absl::StartsWith(out->proxy, "https://") &&
        !absl::StartsWith(out->proxy, "socks5://")) {
      Fault("proxy-url must begin with http://, https:// or socks5://");
    }
  }

  void ReadUser(const Kubeconfig::User& user, Identity* out) {
    if (user.auth_provider) {
      Fault(
          "auth-provider is not supported any more, neither here nor by kubectl; use `exec` with the provider's "
          "plugin");
    }
    out->certificate_pem = Bytes(user.fields, "client-certificate");
    out->key_pem = Bytes(user.fields, "client-key");
    if (out->certificate_pem.empty() != out->key_pem.empty())
      Fault("a client certificate needs its key, and a key its certificate");
    out->token_file = Field(user.fields, "tokenFile");
    out->token = Field(user.fields, "token");
    out->username = Field(user.fields, "username");
    out->password = Field(user.fields, "password");
    const bool token = !out->token.empty() || !out->token_file.empty();
    if (token && !out->username.empty()) Fault("the user has a token and a password; leave one out");
    if (user.exec) ReadExec(user, out);
    const auto impersonate = [&](absl::string_view name, const std::string& value) {
      if (value.empty()) return;
      for (const char c : value) {
        if (absl::ascii_iscntrl(static_cast<unsigned char>(c)))
          return Fault("a name to act as has a control character");
      }
      out->impersonation.push_back(absl::StrCat("Impersonate-", name, ": ", value));
    };
    impersonate("User", Field(user.fields, "as"));
    impersonate("Uid", Field(user.fields, "as-uid"));
    for (const std::string& group : user.groups) impersonate("Group", group);
    for (const auto& [key, values] : user.extra) {
      for (const std::string& value : values) impersonate(absl::StrCat("Extra-", UrlEscape(key)), value);
    }
    for (const std::string* text : {&out->token, &out->username, &out->password}) {
      for (const char c : *text) {
        if (c == '\n' || c == '\r') {
          Fault("a token or password has a line break");
          break;
        }
      }
    }
  }

  void ReadExec(const Kubeconfig::User& user, Identity* out) {
    const ExecPlugin& exec = *user.exec;
    if (exec.command.empty()) Fault("exec has no command");
    const bool v1 = exec.api_version == "client.authentication.k8s.io/v1";
    if (!v1 && exec.api_version != "client.authentication.k8s.io/v1beta1") {
      Fault("exec.apiVersion must be client.authentication.k8s.io/v1 or client.authentication.k8s.io/v1beta1");
    }
    if (user.interactive == "Always") Fault("exec.interactiveMode is Always, and a daemon has nobody to ask");
    if (v1 && user.interactive.empty()) Fault("exec.interactiveMode must be given with v1; Never is right here");
    if (!out->token.empty() || !out->token_file.empty() || !out->username.empty()) {
      Fault("the user has exec beside a token or password; leave one out");
    }
    for (const auto& [name, unused] : exec.env) {
      if (name.empty() || absl::StrContains(name, '=')) Fault("exec.env has an entry without a usable name");
    }
    out->exec = exec;
  }

  const Kubeconfig& config_;
  std::vector<std::string> faults_;
};

}  // namespace

absl::StatusOr<Kubeconfig> ParseKubeconfig(absl::string_view text, const std::string& folder) {
  if (text.size() > kMaxFile) return Invalid("it is larger than 1 MiB");
  const absl::StatusOr<YamlNode> root = ParseYamlTree(text);
  if (!root.ok()) return Invalid(root.status().message());
  Kubeconfig out;
  if (root->kind == Kind::kNull) return out;
  if (root->kind != Kind::kMap) return Invalid("it must be a mapping");
  std::string kind = TextAt(*root, "kind");
  if (!kind.empty() && kind != "Config") return Invalid("its kind must be Config");
  out.current = TextAt(*root, "current-context");
  // Each list is of {name, ENTRY}; of equal names the first counts.
  const auto entries = [&](absl::string_view list, absl::string_view entry, const auto& take) -> absl::Status {
    const YamlNode* node = root->Find(list);
    if (node == nullptr || node->kind == Kind::kNull) return absl::OkStatus();
    if (node->kind != Kind::kList) return Invalid(absl::StrCat("line ", node->line, ": ", list, " must be a list"));
    for (const YamlNode& item : node->list) {
      const std::string name = TextAt(item, "name");
      const YamlNode* body = item.Find(entry);
      if (name.empty()) return Invalid(absl::StrCat("line ", item.line, ": an entry of ", list, " has no name"));
      static const YamlNode kNothing;
      take(name, body == nullptr ? kNothing : *body);
    }
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(entries("contexts", "context", [&](const std::string& name, const YamlNode& node) {
    out.contexts.insert({name, {TextAt(node, "cluster"), TextAt(node, "user"), TextAt(node, "namespace")}});
  }));
  RETURN_IF_ERROR(entries("clusters", "cluster", [&](const std::string& name, const YamlNode& node) {
    out.clusters.insert({name, TextsOf(node, folder)});
  }));
  RETURN_IF_ERROR(entries("users", "user", [&](const std::string& name, const YamlNode& node) {
    out.users.insert({name, UserOf(node, folder)});
  }));
  return out;
}

void MergeKubeconfig(const Kubeconfig& more, Kubeconfig* base) {
  if (base->current.empty()) base->current = more.current;
  base->contexts.insert(more.contexts.begin(), more.contexts.end());
  base->clusters.insert(more.clusters.begin(), more.clusters.end());
  base->users.insert(more.users.begin(), more.users.end());
}

absl::StatusOr<Cluster> ResolveContext(const Kubeconfig& config, const std::string& context) {
  return Resolver(config).Resolve(context);
}

absl::StatusOr<Cluster> ReadKubeconfig(const std::vector<std::string>& files, const std::string& context) {
  Kubeconfig merged;
  bool any = false;
  for (const std::string& file : files) {
    absl::StatusOr<std::string> text = ReadSmallFile(file);
    if (absl::IsNotFound(text.status())) continue;
    RETURN_IF_ERROR(text.status());
    any = true;
    std::error_code ignored;
    const std::string folder = std::filesystem::absolute(file, ignored).parent_path().string();
    absl::StatusOr<Kubeconfig> config = ParseKubeconfig(*text, folder);
    if (!config.ok())
      return Invalid(absl::StrCat(file, ": ", absl::StripPrefix(config.status().message(), "the kubeconfig: ")));
    MergeKubeconfig(*config, &merged);
  }
  if (!any) {
    return Error(absl::StatusCode::kNotFound, "KUBECONFIG_MISSING",
                 absl::StrCat("there is no kubeconfig: ", absl::StrJoin(files, ", "), "; name one, or set KUBECONFIG"));
  }
  return ResolveContext(merged, context);
}

std::vector<std::string> DefaultKubeconfigFiles() {
  if (const char* list = getenv("KUBECONFIG"); list != nullptr && list[0] != '\0') {
    return absl::StrSplit(list, ':', absl::SkipEmpty());
  }
  const char* home = getenv("HOME");
  return {absl::StrCat(home == nullptr ? "" : home, "/.kube/config")};
}

absl::StatusOr<Cluster> ReadInCluster(const std::string& host, const std::string& port, const std::string& folder) {
  const auto not_here = [](absl::string_view what) {
    return Error(absl::StatusCode::kFailedPrecondition, "NOT_IN_CLUSTER",
                 absl::StrCat("this is no pod with a service account: ", what));
  };
  if (host.empty() || port.empty()) return not_here("KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set");
  Cluster out;
  out.context = out.cluster = "in-cluster";
  out.in_pod = true;
  out.server.url = absl::StrContains(host, ':') ? absl::StrCat("https://[", host, "]:", port)
                                                : absl::StrCat("https://", host, ":", port);
  absl::StatusOr<std::string> ca = ReadSmallFile(folder + "/ca.crt");
  if (!ca.ok()) return not_here(ca.status().message());
  out.server.ca_pem = *std::move(ca);
  out.identity.token_file = folder + "/token";
  struct stat st {};
  if (stat(out.identity.token_file.c_str(), &st) != 0)
    return not_here(absl::StrCat("there is no ", out.identity.token_file));
  const absl::StatusOr<std::string> space = ReadSmallFile(folder + "/namespace");
  out.space = space.ok() ? std::string(absl::StripAsciiWhitespace(*space)) : "";
  if (out.space.empty()) out.space = "default";
  return out;
}

}  // namespace orch::kubernetes
