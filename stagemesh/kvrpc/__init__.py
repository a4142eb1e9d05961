"""How clients and the kvstore service talk: the methods of KVStoreService, and blocks on its wire."""
