#include "client/launch/endpoint.h"

#include <cstdio>

namespace orch::launch {
namespace {

bool TakePrefix(std::string_view* text, std::string_view prefix) {
  if (text->substr(0, prefix.size()) != prefix) return false;
  text->remove_prefix(prefix.size());
  return true;
}

}  // namespace

std::string Endpoint::authority() const {
  if (!socket.empty()) return "localhost";
  const std::string name = host.find(':') == std::string::npos ? host : "[" + host + "]";
  return port == (tls ? "443" : "80") ? name : name + ":" + port;
}

bool ParseUrl(std::string_view url, Endpoint* out, std::string* target) {
  *out = Endpoint();
  if (TakePrefix(&url, "unix:")) {
    out->socket = std::string(url);
    *target = "/";
    return !url.empty();
  }
  out->tls = TakePrefix(&url, "https://");
  if (!out->tls && !TakePrefix(&url, "http://")) return false;
  const size_t end = url.find_first_of("/?#");
  std::string_view authority = url.substr(0, end);
  std::string_view rest = end == std::string_view::npos ? std::string_view() : url.substr(end);
  rest = rest.substr(0, rest.find('#'));
  *target = (rest.empty() || rest[0] != '/' ? "/" : "") + std::string(rest);
  if (authority.find('@') != std::string_view::npos) return false;
  size_t colon;
  if (!authority.empty() && authority[0] == '[') {
    const size_t close = authority.find(']');
    if (close == std::string_view::npos) return false;
    out->host = std::string(authority.substr(1, close - 1));
    // An IPv6 address; a zone may follow it.
    if (out->host.find(':') == std::string::npos) return false;
    authority.remove_prefix(close + 1);
    colon = authority.empty() ? std::string_view::npos : 0;
    if (colon == 0 && authority[0] != ':') return false;
  } else {
    colon = authority.find(':');
    out->host = std::string(authority.substr(0, colon));
  }
  out->port = colon == std::string_view::npos ? (out->tls ? "443" : "80") : std::string(authority.substr(colon + 1));
  if (out->host.empty() || out->port.empty() || out->port.size() > 5) return false;
  for (const char c : out->port) {
    if (c < '0' || c > '9') return false;
  }
  for (const char c : out->host) {
    if (static_cast<unsigned char>(c) <= ' ' || static_cast<unsigned char>(c) == 127) return false;
    if (c == '[' || c == ']') return false;
  }
  for (const char c : *target) {
    if (static_cast<unsigned char>(c) <= ' ' || static_cast<unsigned char>(c) == 127) return false;
  }
  return true;
}

bool ParseEndpoint(std::string_view text, Endpoint* out) {
  std::string target;
  if (!ParseUrl(text, out, &target) || target.find('?') != std::string::npos) return false;
  while (!target.empty() && target.back() == '/') target.pop_back();
  out->prefix = target;
  return true;
}

std::string EscapePath(std::string_view path) {
  std::string out;
  for (const char c : path) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
                       c == '.' || c == '_' || c == '~' || c == '/';
    if (plain) {
      out += c;
      continue;
    }
    char hex[4];
    snprintf(hex, sizeof(hex), "%%%02X", static_cast<unsigned char>(c));
    out += hex;
  }
  return out;
}

}  // namespace orch::launch
