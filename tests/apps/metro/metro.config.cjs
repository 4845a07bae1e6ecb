const { join } = require('node:path');
const { getDefaultConfig, mergeConfig } = require('@react-native/metro-config');

// React Native's own settings; the packages lie one folder up.
module.exports = mergeConfig(getDefaultConfig(__dirname), { watchFolders: [join(__dirname, '..', 'node_modules')], maxWorkers: 2 });
