// Registered artifact stores, and which blobs they hold.
#include "server/store/queries_impl.h"

namespace orch::store {

absl::StatusOr<std::vector<ArtifactStoreRow>> QueriesImpl::ListArtifactStores() {
  return pool_->Read("listing artifact stores", [&](Connection& c) -> absl::StatusOr<std::vector<ArtifactStoreRow>> {
    auto s = c.Prepare("SELECT name, flavor, config_json, created, updated, version FROM artifact_store ORDER BY name");
    std::vector<ArtifactStoreRow> out;
    while (s.Next()) {
      out.push_back({s->getColumn(0).getString(), s->getColumn(1).getString(), s->getColumn(2).getString(),
                     s->getColumn(3).getInt64(), s->getColumn(4).getInt64(), s->getColumn(5).getInt64()});
    }
    return out;
  });
}

absl::StatusOr<std::vector<std::string>> QueriesImpl::ListBlobCopies(absl::string_view digest) {
  return pool_->Read("listing copies", [&](Connection& c) -> absl::StatusOr<std::vector<std::string>> {
    auto s = c.Prepare("SELECT store FROM blob_copy WHERE digest = ? ORDER BY store");
    s.Blob(digest);
    std::vector<std::string> out;
    while (s.Next()) out.push_back(s->getColumn(0).getString());
    return out;
  });
}

absl::StatusOr<int64_t> QueriesImpl::CountBlobCopies(absl::string_view store) {
  return pool_->Read("counting copies", [&](Connection& c) -> absl::StatusOr<int64_t> {
    auto s = c.Prepare("SELECT count(*) FROM blob_copy WHERE store = ?");
    return s.Text(store).Next() ? s->getColumn(0).getInt64() : 0;
  });
}

}  // namespace orch::store
